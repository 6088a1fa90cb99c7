"""NVLink of any generation, between two GPUs or to an NVSwitch.

Bandwidth of one link each way, achieved; on paper 20, 25, 25, 25 and 50 GB/s for the generations 1 to 5, and 14 GB/s
for the bridge of a GeForce RTX 3090:

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

from torchplace.placement.topology.link import Link, both_ways

LATENCY = 3.4e-6

_BANDWIDTH = {"nvlink1": 18e9, "nvlink2": 23.95e9, "nvlink3": 20e9, "nvlink4": 20.6e9, "nvlink5": 40.1e9}
_BRIDGE_BANDWIDTH = 12e9


def bonded(one: str, other: str, generation: int, links: int) -> tuple[Link, Link]:
    """Two GPUs that some NVLinks join directly."""
    return both_ways(one, other, *_fields(generation, links), LATENCY)


def switched(gpu: str, switch: str, generation: int, links: int) -> tuple[Link, Link]:
    """A GPU with all of its NVLinks to the NVSwitches."""
    return both_ways(gpu, switch, *_fields(generation, links), LATENCY / 2)


def bridge(one: str, other: str) -> tuple[Link, Link]:
    """Two GeForce RTX 3090 with an NVLink bridge: four links."""
    return both_ways(one, other, "nvlink3-x4", 4 * _BRIDGE_BANDWIDTH, LATENCY)


def _fields(generation: int, links: int) -> tuple[str, float]:
    name = f"nvlink{generation}"
    return (name if links == 1 else f"{name}-x{links}"), links * _BANDWIDTH[name]
