"""Sockets: what joins two of them, and the memory of one.

- Bandwidth between two sockets, as traffic between GPUs gets it, far below what the CPUs themselves move: NCCL's
  `src/graph/topo.h`, `BDW_QPI_BW`, `SKL_QPI_BW`, `SRP_QPI_BW`, `ERP_QPI_BW` and `AMD_BW`.
- Crossing to the other socket adds 58 ns, and reading the own socket's memory takes 136 ns: Intel's Memory Latency
  Checker on a Xeon E7-4800, 136 ns on the own and 194 ns on the next socket (Intel Developer Zone, "Memory Latencies
  on Intel Xeon Processor E5-4600 and E7-4800 product families", 2014). Nominal for the other CPUs.
- The memory's bandwidth is that of its channels on paper; each direction of its link has all of it.
"""

from __future__ import annotations

from torchplace.placement.topology.link import Link, both_ways

JOINT_LATENCY = 58e-9
MEMORY_LATENCY = 136e-9

_JOINTS = {
    "broadwell": ("qpi", 6e9),
    "skylake": ("upi", 10e9),
    "sapphire-rapids": ("upi", 22e9),
    "emerald-rapids": ("upi", 40e9),
    "epyc": ("xgmi", 16e9),
}


def joint(socket: str, other: str, cpu: str) -> tuple[Link, Link]:
    """The connection of two sockets of some CPU, as GPUs' peer traffic sees it."""
    kind, bandwidth = _JOINTS[cpu]
    return both_ways(socket, other, kind, bandwidth, JOINT_LATENCY)


def memory(socket: str, name: str, bandwidth: float) -> tuple[Link, Link]:
    """A socket and its memory (bytes/s)."""
    return both_ways(socket, name, "memory", bandwidth, MEMORY_LATENCY)
