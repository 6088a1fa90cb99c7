"""Networks that join boxes to a cluster.

A network is idealised here: one switch that never blocks, which is what a full fat tree promises, and every NIC has
one port on it. Nothing is lost to congestion inside it, to routing, or to distance.

Bandwidth, each way, as payload:

- `100gbe`, `edr100`, `hdr200`, `ndr400`, `xdr800`: 12 GB/s for each 100 Gbit/s, what NCCL expects of a NIC (`NET_BW` in
  its `src/graph/topo.h`, "100Gbit"); 12.5 GB/s on paper. `100gbe` is RoCE.
- `10gbe`, `25gbe`: TCP with frames of 1,500 bytes. Of the 1,538 bytes that each takes on the wire (preamble 8, header
  14, check sum 4, gap 12), 1,448 are payload (IP 20, TCP 20, time stamps 12), 94.1%.

Latency, from GPU to GPU with what PCIe adds (`pcie`, 5.7 us):

- InfiniBand and RoCE: 14.0 us, NCCL's `src/graph/tuning.cc`, hardware latencies, row NET, ring, Simple protocol. What
  PCIe does not account for, 8.3 us, is the network's here, half of it on each side of the switch.
- TCP: 10 us more, the way from one application to another over 10 Gbit/s Ethernet with the Linux stack, idle (Larsen
  et al., "Architectural breakdown of end-to-end latency in a TCP/IP network", SBAC-PAD 2007); nominal for 25 Gbit/s.
"""

from __future__ import annotations

from dataclasses import dataclass

from torchplace.placement.topology.parts.pcie import GPU_LATENCY

_HOP = 14.0e-6 - 2 * GPU_LATENCY
_TCP = 10e-6
_TCP_SHARE = 1448 / 1538
_PER_100_GBIT = 12e9


@dataclass(frozen=True)
class Network:
    """What joins a NIC to the network's switch.

    Attributes:
        name: such as "ndr400"; also the kind of its links.
        bandwidth: bytes/s of payload, each way, of one NIC.
        latency: seconds from NIC to NIC, over two links.
    """

    name: str
    bandwidth: float
    latency: float


NETWORKS = {
    network.name: network
    for network in (
        Network("10gbe", _TCP_SHARE * 10e9 / 8, _HOP + _TCP),
        Network("25gbe", _TCP_SHARE * 25e9 / 8, _HOP + _TCP),
        Network("100gbe", _PER_100_GBIT, _HOP),
        Network("edr100", _PER_100_GBIT, _HOP),
        Network("hdr200", 2 * _PER_100_GBIT, _HOP),
        Network("ndr400", 4 * _PER_100_GBIT, _HOP),
        Network("xdr800", 8 * _PER_100_GBIT, _HOP),
    )
}
"""The networks by name."""


def network_names() -> tuple[str, ...]:
    """Names of the networks that a cluster can be joined by, from slow to fast."""
    return tuple(NETWORKS)
