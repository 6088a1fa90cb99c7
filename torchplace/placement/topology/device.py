"""A device: something that runs ops, with its capacities and speeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import require_name, require_number, require_text, require_whole

_TORCH_DEVICE = re.compile(r"[a-z][a-z0-9_]*(:[0-9]+)?")
_WIDE = ("float64", "complex128")


@dataclass(frozen=True)
class Device:
    """Something that runs ops: a GPU, a worker thread of a CPU, a custom accelerator.

    Attributes:
        name: unique in its topology, such as "gpu:0".
        kind: the model, such as "v100-sxm2-16gb" or "cpu"; devices of one kind share measured costs.
        memory: capacity in bytes.
        peak_flops: FLOP/s by the dtype's short name ("float32", "float16", "bfloat16", "float64", "int8").
            At least one entry; `peak` says what stands in for a missing one.
        memory_bandwidth: bytes/s between the device and its own memory, reads and writes together.
        launch_overhead: seconds that every op costs before it does any work.
        torch_device: the torch device that it stands for here, such as "cuda:0". Several CPU devices share
            "cpu".
        threads: intra-op threads of a CPU device's worker; None means a share of its group's (`CoRun.threads`) or,
            without such a group, what `torch.get_num_threads()` says.
        peer_to_peer: other devices may read and write its memory over PCIe or the like. Without it, what it sends or
            gets is staged in host memory (`staging`), but for devices that a link joins to it directly.

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    name: str
    kind: str
    memory: int
    peak_flops: Mapping[str, float] = field(hash=False)
    memory_bandwidth: float
    launch_overhead: float
    torch_device: str = "cpu"
    threads: int | None = None
    peer_to_peer: bool = True

    def __post_init__(self) -> None:
        require_name("device", self.name)
        owner = f"device {self.name!r}"
        require_text(owner, "kind", self.kind)
        require_whole(owner, "memory", self.memory, "bytes")
        self._check_peaks(owner)
        require_number(owner, "memory_bandwidth", self.memory_bandwidth, "bytes/s")
        require_number(owner, "launch_overhead", self.launch_overhead, "seconds", zero=True)
        if not _TORCH_DEVICE.fullmatch(str(self.torch_device)):
            raise TopologyError(
                f"{owner}: torch_device is {self.torch_device!r}, expected a torch device, 'cpu' or 'cuda:0'"
            )
        if self.threads is not None:
            require_whole(owner, "threads", self.threads, "intra-op threads")
        if not isinstance(self.peer_to_peer, bool):
            raise TopologyError(f"{owner}: peer_to_peer is {self.peer_to_peer!r}, expected True or False")

    def _check_peaks(self, owner: str) -> None:
        peaks: object = self.peak_flops
        if not isinstance(peaks, Mapping) or not peaks:
            raise TopologyError(
                f"{owner}: peak_flops is {peaks!r}, expected FLOP/s by dtype, such as {{'float32': 1e12}}"
            )
        for dtype, flops in self.peak_flops.items():
            require_text(owner, "a dtype of peak_flops", dtype)
            require_number(owner, f"peak_flops[{dtype!r}]", flops, "FLOP/s")
        # A copy, so that nobody changes a frozen device through the mapping that it was made from.
        object.__setattr__(self, "peak_flops", dict(self.peak_flops))

    def with_threads(self, threads: int, of: int) -> Device:
        """This device with other intra-op threads; its peaks, given for `of` threads, grow in proportion.

        A device that has a number of threads of its own keeps it.
        """
        if self.threads is not None:
            return self
        peaks = {dtype: flops * threads / of for dtype, flops in self.peak_flops.items()}
        return replace(self, threads=threads, peak_flops=peaks)

    def peak(self, dtype: str) -> float:
        """Peak FLOP/s for a dtype, by its short name ("float32") or torch's ("torch.float32").

        A dtype that is not listed gets, in this order: for float64 and complex128, the figure of float64, or
        half that of float32; for any other (float16 and bfloat16 where the hardware has no units for them,
        integers, bool), the figure of float32; and where float32 is not listed either, the smallest listed
        figure, so that a missing entry never promises too much.
        """
        short = dtype.removeprefix("torch.")
        if short in self.peak_flops:
            return self.peak_flops[short]
        if short in _WIDE and "float64" in self.peak_flops:
            return self.peak_flops["float64"]
        single = self.peak_flops.get("float32")
        if single is None:
            return min(self.peak_flops.values())
        return single / 2 if short in _WIDE else single
