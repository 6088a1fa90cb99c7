"""A stand-in for the module `pynvml` that tells of a machine that is not here, as the real one does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GIB = 2**30


class NVMLError(Exception):
    """As the real one: the base of all of its errors."""


@dataclass
class Gpu:
    """What the fake knows of a GPU.

    Attributes:
        links: for each NVLink, the index of the GPU that it leads to, "switch", or None for one that is down.
        affinity: the CPUs near it, as a mask of 64.
    """

    name: str | bytes = "Tesla V100-SXM2-16GB"
    memory: int = 16_152 * 2**20
    generation: int = 3
    lanes: int = 16
    links: list[int | str | None] = field(default_factory=list)
    version: int = 2
    affinity: int = 0xFF
    mig: bool = False


class FakeNvml:
    """The module; `levels` has pairs of indices, `peers` tells whether a pair has peer-to-peer over PCIe.

    Functions that are named in `unsupported` raise, as the real ones do for a GPU that cannot tell.
    """

    NVMLError = NVMLError
    NVML_NVLINK_MAX_LINKS = 18

    def __init__(
        self,
        gpus: list[Gpu],
        level: Callable[[int, int], int] = lambda one, other: 30,
        peers: Callable[[int, int], bool] = lambda one, other: True,
        unsupported: tuple[str, ...] = (),
        failures: Mapping[str, str] | None = None,
    ) -> None:
        self.gpus, self.level, self.peers = gpus, level, peers
        self.unsupported, self.failures = unsupported, failures or {}
        self.initialised = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "failures"):
            raise_ = NVMLError(object.__getattribute__(self, "failures")[name])
            return lambda *_: (_ for _ in ()).throw(raise_)
        if name.startswith("nvml") and name in object.__getattribute__(self, "unsupported"):
            return lambda *_: (_ for _ in ()).throw(NVMLError("Not Supported"))
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:  # noqa: N802
        self.initialised += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.initialised -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle:08d}-0000"

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        return self.gpus[handle].name

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=self.gpus[handle].memory)

    def nvmlDeviceGetPciInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(busId=f"00000000:{handle + 0xA0:02X}:00.0")

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: int) -> int:  # noqa: N802
        return self.gpus[handle].generation

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: int) -> int:  # noqa: N802
        return 16

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: int) -> int:  # noqa: N802
        return self.gpus[handle].lanes

    def nvmlDeviceGetTopologyCommonAncestor(self, one: int, other: int) -> int:  # noqa: N802
        return self.level(one, other)

    def nvmlDeviceGetCpuAffinity(self, handle: int, words: int) -> list[int]:  # noqa: N802
        return [self.gpus[handle].affinity] + [0] * (words - 1)

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:  # noqa: N802
        return [int(self.gpus[handle].mig)] * 2

    def _link(self, handle: int, link: int) -> int | str:
        links = self.gpus[handle].links
        if link >= len(links) or links[link] is None:
            raise NVMLError("Invalid Argument" if link >= len(links) else "Not Supported")
        return links[link]  # type: ignore[return-value]

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> int:  # noqa: N802
        if link >= len(self.gpus[handle].links):
            raise NVMLError("Invalid Argument")
        return int(self.gpus[handle].links[link] is not None)

    def nvmlDeviceGetNvLinkVersion(self, handle: int, link: int) -> int:  # noqa: N802
        self._link(handle, link)
        return self.gpus[handle].version

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, link: int) -> SimpleNamespace:  # noqa: N802
        end = self._link(handle, link)
        if isinstance(end, int):
            # In lower case, unlike the one above: versions differ in it.
            return SimpleNamespace(busId=f"00000000:{end + 0xA0:02x}:00.0")
        return SimpleNamespace(busId="00000000:07:00.0")

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: int, link: int) -> int:  # noqa: N802
        return 2 if self._link(handle, link) == "switch" else 0

    def nvmlDeviceGetP2PStatus(self, one: int, other: int, index: int) -> int:  # noqa: N802
        if index == 2:
            return 0 if self.gpus[one].links and self.gpus[other].links else 5
        return 0 if self.peers(one, other) else 2
