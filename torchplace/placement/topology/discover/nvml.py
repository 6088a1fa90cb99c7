"""The GPUs of this machine as NVIDIA's management library (NVML) tells of them: what they are, and how they are joined.

It is read with the package `nvidia-ml-py` (module `pynvml`), an optional dependency, and touches no device: it needs
the driver alone, not CUDA.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from torchplace.errors import TopologyError
from torchplace.placement.topology import gpus
from torchplace.placement.topology.discover.assemble import assemble
from torchplace.placement.topology.discover.levels import Level, Pair, completed
from torchplace.placement.topology.discover.survey import Card, Survey
from torchplace.placement.topology.figures import cpu_model
from torchplace.placement.topology.parts import nvlink
from torchplace.placement.topology.parts.pcie import Pcie
from torchplace.placement.topology.parts.sockets import cpu_kind
from torchplace.placement.topology.topology import Topology

# nvmlGpuTopologyLevel_t: internal, single, multiple, host bridge, node, system.
_LEVELS = {
    0: Level.SWITCH,
    10: Level.SWITCH,
    20: Level.SWITCHES,
    30: Level.BRIDGE,
    40: Level.NODE,
    50: Level.SYSTEM,
}
# NVML_NVLINK_VERSION_*: 1.0, 2.0, 2.2, 3.0, 3.1, 4.0, 5.0.
_VERSIONS = {
    1: nvlink.NVLINK1,
    2: nvlink.NVLINK2,
    3: nvlink.NVLINK2,
    4: nvlink.NVLINK3,
    5: nvlink.NVLINK3,
    6: nvlink.NVLINK4,
    7: nvlink.NVLINK5,
}
_ENABLED, _OK = 1, 0
_READ, _WRITE, _BY_NVLINK = 0, 1, 2  # nvmlGpuP2PCapsIndex_t; the package has the first as a tuple
_SWITCH = 2  # nvmlNvLinkDeviceType_t
_MOST_LINKS = 18  # of the releases that do not say


def discover(name: str = "nvml", uuids: Sequence[str] | None = None, prefix: str = "gpu") -> Topology:
    """The GPUs of this machine, or some of them, as a topology.

    Models that are known have the figures of `gpus`; another gets nominal ones, with a warning that names it.

    Args:
        name: of the topology.
        uuids: of the GPUs to take, in order, as torch or NVML has them; None for all, in NVML's order.
        prefix: of the devices' names: "gpu" for "gpu:0", which is "cuda:0" to torch.

    Raises:
        TopologyError: NVML or the package to read it is not here, or it knows no GPU, or not the one that is asked for.
    """
    library = _library()
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        raise TopologyError(f"NVML cannot be used: {error}; is NVIDIA's driver here, does nvidia-smi work?") from None
    try:
        return assemble(_Machine(library, uuids, prefix).survey(name))
    except library.NVMLError as error:
        raise TopologyError(f"NVML stopped with: {error}") from None
    finally:
        library.nvmlShutdown()


def _library() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        raise TopologyError(
            "NVML cannot be read without the package nvidia-ml-py; install it, or torchplace[nvidia]"
        ) from None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _Machine:
    """Asks NVML about some GPUs; what it does not support is left open."""

    def __init__(self, library: Any, uuids: Sequence[str] | None, prefix: str) -> None:
        self._nvml = library
        handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]
        if uuids is not None:
            handles = self._chosen(handles, uuids)
        if not handles:
            raise TopologyError("NVML finds no GPU on this machine")
        self._handles = {f"{prefix}:{i}": handle for i, handle in enumerate(handles)}
        self._by_bus = {self._bus(library.nvmlDeviceGetPciInfo(h)): name for name, h in self._handles.items()}

    def _chosen(self, handles: Sequence[Any], uuids: Sequence[str]) -> list[Any]:
        known = {_text(self._nvml.nvmlDeviceGetUUID(handle)).removeprefix("GPU-"): handle for handle in handles}
        missing = [uuid for uuid in uuids if uuid.removeprefix("GPU-") not in known]
        if missing:
            raise TopologyError(f"NVML knows no GPU with the UUID {missing[0]!r} (a part of one, in MIG mode?)")
        return [known[uuid.removeprefix("GPU-")] for uuid in uuids]

    @staticmethod
    def _bus(info: Any) -> str:
        return _text(info.busId).lower()

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What a function of NVML says; None where this GPU, driver or package does not support it."""
        try:
            return getattr(self._nvml, function)(*arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None

    def survey(self, name: str) -> Survey:
        """All that NVML knows and a topology needs."""
        bonded, switched = self._nvlinks()
        peers = self._peer_to_peer({*bonded}, {*switched})
        cards = tuple(self._card(gpu, peers) for gpu in self._handles)
        levels = {
            pair: _LEVELS[found]
            for pair in combinations(self._handles, 2)
            if (found := self._ask("nvmlDeviceGetTopologyCommonAncestor", *self._pair(pair))) in _LEVELS
        }
        unknown = [pair for pair in combinations(self._handles, 2) if pair not in levels]
        levels = completed([*self._handles], levels, unknown, dict(self._affinities()))
        return Survey(name, cards, levels, (), bonded, switched, cpu_kind(cpu_model()))

    def _pair(self, pair: Pair) -> tuple[Any, Any]:
        return self._handles[pair[0]], self._handles[pair[1]]

    def _card(self, gpu: str, peers: dict[str, bool]) -> Card:
        handle = self._handles[gpu]
        memory = int(self._nvml.nvmlDeviceGetMemoryInfo(handle).total)
        reported = _text(self._nvml.nvmlDeviceGetName(handle))
        model = gpus.find(reported, memory)
        if model.nominal:
            model = replace(model, nvlink=self._link_version(handle) or model.nvlink)
        mode = self._ask("nvmlDeviceGetMigMode", handle)
        if mode and mode[0]:
            warnings.warn(f"{gpu} ({reported}) is in MIG mode: it is taken as a whole, not by its parts", stacklevel=6)
        torch_device = f"cuda:{gpu.rpartition(':')[2]}"
        return Card(gpu, model, torch_device, self._slot(handle, model.pcie), memory, peers.get(gpu))

    def _slot(self, handle: Any, made_for: Pcie) -> Pcie:
        """Generation and lanes that the GPU and its slot can do; idle GPUs run at a lower generation, so not now's."""
        generation = self._ask("nvmlDeviceGetMaxPcieLinkGeneration", handle)
        widths = [self._ask(f"nvmlDeviceGet{which}PcieLinkWidth", handle) for which in ("Max", "Curr")]
        lanes = min((width for width in widths if width), default=made_for.lanes)
        return Pcie.nearest(generation or made_for.generation, lanes)

    def _affinities(self) -> Iterator[tuple[str, str]]:
        words = -(-(os.cpu_count() or 1) // 64)
        for gpu, handle in self._handles.items():
            mask = self._ask("nvmlDeviceGetCpuAffinity", handle, words)
            if mask is not None and any(mask):
                yield gpu, ",".join(f"{word:x}" for word in mask)

    def _links(self, handle: Any) -> Iterator[int]:
        """The NVLinks of a GPU that are up."""
        for link in range(getattr(self._nvml, "NVML_NVLINK_MAX_LINKS", _MOST_LINKS)):
            if self._ask("nvmlDeviceGetNvLinkState", handle, link) == _ENABLED:
                yield link

    def _link_version(self, handle: Any) -> nvlink.NvLink | None:
        versions = (self._ask("nvmlDeviceGetNvLinkVersion", handle, link) for link in self._links(handle))
        return next((_VERSIONS[version] for version in versions if version in _VERSIONS), None)

    def _nvlinks(self) -> tuple[dict[Pair, int], dict[str, int]]:
        """NVLinks of pairs that are joined directly, and of each GPU to NVSwitches."""
        ends: dict[tuple[str, str], int] = {}
        switched: dict[str, int] = {}
        for gpu, handle in self._handles.items():
            for link in self._links(handle):
                remote = self._ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
                other = self._by_bus.get(self._bus(remote)) if remote is not None else None
                if other is not None and other != gpu:
                    ends[gpu, other] = ends.get((gpu, other), 0) + 1
                elif self._leads_to_switch(handle, link):
                    switched[gpu] = switched.get(gpu, 0) + 1
        order = {gpu: position for position, gpu in enumerate(self._handles)}
        bonded: dict[Pair, int] = {}
        for (one, other), number in ends.items():
            pair = (one, other) if order[one] < order[other] else (other, one)
            bonded[pair] = max(number, bonded.get(pair, 0))  # a link is seen from both of its ends
        return bonded, switched

    def _leads_to_switch(self, handle: Any, link: int) -> bool:
        """Whether a link that leads to no GPU leads to an NVSwitch; where the driver does not say, peers over it do."""
        kind = self._ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
        if kind is not None:
            return bool(kind == _SWITCH)
        others = (other for other in self._handles.values() if other is not handle)
        return any(self._ask("nvmlDeviceGetP2PStatus", handle, other, _BY_NVLINK) == _OK for other in others)

    def _peer_to_peer(self, bonded: set[Pair], switched: set[str]) -> dict[str, bool]:
        """Whether GPUs reach any other over PCIe; GPUs that have no other but over NVLink are left out."""
        found: dict[str, bool] = {}
        for pair in combinations(self._handles, 2):
            if pair in bonded or switched.issuperset(pair):
                continue
            status = [self._ask("nvmlDeviceGetP2PStatus", *self._pair(pair), index) for index in (_READ, _WRITE)]
            if None not in status:
                for gpu in pair:
                    found[gpu] = found.get(gpu, False) or status == [_OK, _OK]
        return found
