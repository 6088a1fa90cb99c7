"""PCI Express 3.0 and Xeon E5 sockets, as the machines of 2015 to 2018 share them.

What the links are costed with, and where the figures come from:

- A PCIe 3.0 x16 link moves 12 GB/s each way: `PCI_BW` in NCCL's `src/graph/topo.h`, "PCI Gen3 x16".
- A transfer between two GPUs over PCIe starts after 5.7 us: NCCL's `src/graph/tuning.cc`, `hwLat`, row PCI,
  ring, Simple protocol. Both ends have a half of it: the link between a GPU and whatever it is plugged into.
- A packet crosses a PCIe switch in at most 150 ns: product brief of the PLX (Broadcom) PEX 8796, a switch of
  96 lanes. It is the latency of a link that leaves a switch towards its socket or another switch.
- GPUs under two sockets exchange 6 GB/s over QPI: `BDW_QPI_BW` in NCCL's `src/graph/topo.h`. That is what
  peer traffic gets, far below what QPI moves for the CPUs themselves.
- Crossing QPI adds 58 ns: Intel's Memory Latency Checker on a Xeon E7-4800 reads memory in 136 ns on the own
  and in 194 ns on the next socket (Intel Developer Zone, "Memory Latencies on Intel Xeon Processor E5-4600
  and E7-4800 product families", 2014).
"""

from __future__ import annotations

from torchplace.placement.topology.link import Link, both_ways

PCIE_BANDWIDTH = 12e9
GPU_LATENCY = 5.7e-6 / 2
SWITCH_LATENCY = 150e-9
QPI_BANDWIDTH = 6e9
QPI_LATENCY = 58e-9


def plug(gpu: str, into: str) -> tuple[Link, Link]:
    """A GPU in an x16 slot of a switch or socket."""
    return both_ways(gpu, into, "pcie3-x16", PCIE_BANDWIDTH, GPU_LATENCY)


def uplink(switch: str, to: str) -> tuple[Link, Link]:
    """A switch's x16 port to a socket or to another switch."""
    return both_ways(switch, to, "pcie3-x16", PCIE_BANDWIDTH, SWITCH_LATENCY)


def qpi(socket: str, other: str) -> tuple[Link, Link]:
    """The connection of two sockets, as GPUs' peer traffic sees it."""
    return both_ways(socket, other, "qpi", QPI_BANDWIDTH, QPI_LATENCY)
