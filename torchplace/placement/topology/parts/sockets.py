"""Sockets: what joins two of them, what is inside, and the memory of one.

A socket stands for a NUMA node, which a CPU may have several of.

- Bandwidth between two sockets, as traffic between GPUs gets it, far below what the CPUs themselves move: NCCL's
  `src/graph/topo.h`, `BDW_QPI_BW`, `SKL_QPI_BW`, `SRP_QPI_BW`, `ERP_QPI_BW` and `AMD_BW`.
- Crossing to the other socket adds 58 ns, and reading the own socket's memory takes 136 ns: Intel's Memory Latency
  Checker on a Xeon E7-4800, 136 ns on the own and 194 ns on the next socket (Intel Developer Zone, "Memory Latencies
  on Intel Xeon Processor E5-4600 and E7-4800 product families", 2014). Nominal for the other CPUs.
- Between the PCIe host bridges of one socket, where it has several: never the narrowest. NCCL gives what stays inside a
  socket 5,000 GB/s (`LOC_BW` in the same file) and no latency.
- The memory's bandwidth is that of its channels on paper; each direction of its link has all of it.
"""

from __future__ import annotations

import re

from torchplace.placement.topology.link import Link, both_ways

JOINT_LATENCY = 58e-9
MEMORY_LATENCY = 136e-9
INSIDE_BANDWIDTH = 5000e9

_JOINTS = {
    "broadwell": ("qpi", 6e9),
    "skylake": ("upi", 10e9),
    "sapphire-rapids": ("upi", 22e9),
    "emerald-rapids": ("upi", 40e9),
    "epyc": ("xgmi", 16e9),
}
CPUS = tuple(_JOINTS)
"""The CPUs whose joint is known; the nearest stands in for others."""

_MODELS = (
    (r"EPYC|Threadripper|Ryzen", "epyc"),
    (r"E[57]-[0-9]+ v[1-4]|E[57]-[0-9]+ 0", "broadwell"),
    (r"(?:Platinum|Gold|Silver|Bronze) [3-8]4[0-9]{2}", "sapphire-rapids"),
    (r"(?:Platinum|Gold|Silver|Bronze) [3-8]5[0-9]{2}|Xeon 6", "emerald-rapids"),
)
_OTHER = "skylake"


def cpu_kind(model: str) -> str:
    """The one of `CPUS` that is nearest to a CPU, by the name that the operating system has for it."""
    return next((kind for pattern, kind in _MODELS if re.search(pattern, model, re.IGNORECASE)), _OTHER)


def joint(socket: str, other: str, cpu: str) -> tuple[Link, Link]:
    """The connection of two sockets of some CPU, as GPUs' peer traffic sees it."""
    kind, bandwidth = _JOINTS[cpu]
    return both_ways(socket, other, kind, bandwidth, JOINT_LATENCY)


def host_bridge(bridge: str, socket: str) -> tuple[Link, Link]:
    """One of several PCIe host bridges of a socket, and the socket."""
    return both_ways(bridge, socket, "on-chip", INSIDE_BANDWIDTH, 0.0)


def memory(socket: str, name: str, bandwidth: float) -> tuple[Link, Link]:
    """A socket and its memory (bytes/s)."""
    return both_ways(socket, name, "memory", bandwidth, MEMORY_LATENCY)
