"""What the registry knows of a machine: how it is made, and where its NICs go when it joins a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torchplace.placement.topology.parts.pcie import Pcie
from torchplace.placement.topology.topology import Topology


@dataclass(frozen=True)
class Machine:
    """A documented machine.

    Attributes:
        build: makes its topology, without NICs.
        nics: the switch or socket that each NIC is plugged into, one entry for each NIC.
        slot: the PCIe link of a NIC.
        network: that joins boxes where a cluster's name says none: the one that the machine is sold with, else
            100 Gbit/s Ethernet.
    """

    build: Callable[[], Topology]
    nics: tuple[str, ...]
    slot: Pcie
    network: str = "100gbe"
