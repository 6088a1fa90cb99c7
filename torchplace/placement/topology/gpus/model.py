"""A GPU model: what one card of it can do, apart from the machine that it is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchplace.errors import TopologyError
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.parts.nvlink import NvLink
from torchplace.placement.topology.parts.pcie import Pcie

LAUNCH_OVERHEAD = 5e-6
"""Seconds an op, nominal for every GPU. Empty kernels take about 3 us on recent hardware (NVIDIA developer forums,
thread 233645), and one eager PyTorch op about 20 us end to end on a V100 (NVIDIA's Nsight Systems guide, as quoted in
groundy.com, "Every CUDA kernel pays a launch tax"), most of which overlaps with the op before."""


@dataclass(frozen=True)
class GpuModel:
    """A GPU model.

    Attributes:
        kind: as devices name it: "v100-sxm2-16gb".
        names: as drivers and torch report it, without the maker and the family ("NVIDIA", "Tesla", "GeForce").
        memory: bytes; what `nvidia-smi` prints as the total. Newer drivers count in it what they keep for themselves,
            up to 2 %; of cards that older drivers were made for, it is the smaller total that those print.
        peak_flops: FLOP/s by dtype, without sparsity; tensor cores accumulate in float32, as PyTorch has them.
            float32 is that of the CUDA cores, not TF32.
        memory_bandwidth: bytes/s, reads and writes together.
        pcie: the link that it is made for; a machine may give it a slower one.
        nvlink: one of its NVLinks, if it has any.
        nvlinks: how many leave it.
        peer_to_peer: the driver lets others read and write its memory over PCIe.
        nominal: its figures are a stand-in for figures that nobody gave.
    """

    kind: str
    names: tuple[str, ...]
    memory: int
    peak_flops: Mapping[str, float] = field(hash=False)
    memory_bandwidth: float
    pcie: Pcie
    nvlink: NvLink | None = None
    nvlinks: int = 0
    peer_to_peer: bool = True
    nominal: bool = False

    def device(self, name: str, torch_device: str, memory: int | None = None) -> Device:
        """One such GPU; `memory` (bytes) is what the machine reports, where it does."""
        return Device(
            name=name,
            kind=self.kind,
            memory=memory or self.memory,
            peak_flops=self.peak_flops,
            memory_bandwidth=self.memory_bandwidth,
            launch_overhead=LAUNCH_OVERHEAD,
            torch_device=torch_device,
            peer_to_peer=self.peer_to_peer,
        )

    def bonded(self, one: str, other: str, links: int) -> tuple[Link, Link]:
        """Two of them that some NVLinks join directly.

        Raises:
            TopologyError: the model has no NVLink.
        """
        return self._nvlink(one).bonded(one, other, links)

    def switched(self, gpu: str, switch: str, links: int | None = None) -> tuple[Link, Link]:
        """One of them with its NVLinks, all of them unless told otherwise, to the NVSwitches.

        Raises:
            TopologyError: the model has no NVLink.
        """
        return self._nvlink(gpu).switched(gpu, switch, links or self.nvlinks)

    def _nvlink(self, gpu: str) -> NvLink:
        if self.nvlink is None:
            raise TopologyError(f"{gpu!r} is joined by NVLink, which its model {self.kind!r} does not have")
        return self.nvlink

    def devices(self, count: int) -> tuple[Device, ...]:
        """The first GPUs of a machine: "gpu:0", which is "cuda:0" to torch, and so on."""
        return tuple(self.device(f"gpu:{i}", f"cuda:{i}") for i in range(count))
