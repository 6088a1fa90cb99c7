"""NVLink of any generation, between two GPUs or to an NVSwitch.

Bandwidth of one link each way, achieved; on paper 20, 25, 25, 25 and 50 GB/s for the generations 1 to 5, and 14 GB/s
for the bridges of GA102 (GeForce RTX 3090, RTX A6000, A40):

- Generation 1, 3, 4 and 5, and the bridge: NCCL's `src/graph/topo.h`, `SM60_NVLINK_BW` 18, `SM80_NVLINK_BW` 20,
  `SM90_NVLINK_BW` 20.6, `SM100_NVLINK_BW` 40.1, `SM86_NVLINK_BW` 12 GB/s.
- Generation 2: 23.95 GB/s, measured between two V100 SXM2 by `p2pBandwidthLatencyTest` on two links, 47.9 GB/s (Dell
  EMC, "Ready Solutions for AI: Deep Learning with NVIDIA", table 3). NCCL expects 20 GB/s of it.

A transfer over NVLink starts after 3.4 us: NCCL's `src/graph/tuning.cc`, hardware latencies, row NVLINK, ring, Simple
protocol. Through an NVSwitch, each of the two links has a half of it.

The NVSwitch chips of a machine are one node here: each GPU is joined to all of them, and together they pass on the
full bandwidth of every GPU at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from torchplace.placement.topology.link import Link, both_ways

LATENCY = 3.4e-6


@dataclass(frozen=True)
class NvLink:
    """One NVLink.

    Attributes:
        generation: 1 to 5.
        bandwidth: bytes/s each way.
    """

    generation: int
    bandwidth: float

    def bonded(self, one: str, other: str, links: int) -> tuple[Link, Link]:
        """Two GPUs that some NVLinks join directly."""
        return both_ways(one, other, self.kind(links), links * self.bandwidth, LATENCY)

    def switched(self, gpu: str, switch: str, links: int) -> tuple[Link, Link]:
        """A GPU with all of its NVLinks to the NVSwitches."""
        return both_ways(gpu, switch, self.kind(links), links * self.bandwidth, LATENCY / 2)

    def kind(self, links: int) -> str:
        """As links name it: "nvlink2", "nvlink4-x18"."""
        name = f"nvlink{self.generation}"
        return name if links == 1 else f"{name}-x{links}"


NVLINK1, NVLINK2, NVLINK3, NVLINK4, NVLINK5 = (
    NvLink(generation, bandwidth)
    for generation, bandwidth in ((1, 18e9), (2, 23.95e9), (3, 20e9), (4, 20.6e9), (5, 40.1e9))
)
BRIDGE = NvLink(3, 12e9)
"""The slower third generation of GA102: GeForce RTX 3090, RTX A6000, A40."""
