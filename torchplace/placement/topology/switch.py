"""A switch: something that forwards data and runs no ops."""

from __future__ import annotations

from dataclasses import dataclass

from torchplace.placement.topology.checks import require_name, require_text

CPU_SOCKET = "cpu-socket"
"""Kind of the switches that stand for a NUMA node: a socket, or a part of one."""

HOST_BRIDGE = "host-bridge"
"""Kind of the switches that stand for one of several PCIe host bridges of a socket."""

HOST_MEMORY = "host-memory"
"""Kind of the switches that transfers of devices without peer-to-peer are staged in."""

NETWORK_SWITCH = "network-switch"
"""Kind of the switches that join boxes."""

OUTWARD = ("nic", NETWORK_SWITCH)
"""Kinds of the switches that lead out of a box: a device's own host memory is on its side of them."""


@dataclass(frozen=True)
class Switch:
    """Something that forwards data and runs no ops.

    Attributes:
        name: unique in its topology, such as "pcie:0".
        kind: "pcie-switch", "cpu-socket" (with the PCIe host bridge in it), "host-bridge" (of a socket that has
            several), "nvswitch", "host-memory", "network-switch" or "nic". Others are allowed. All of them forward;
            routing tells apart what leads out of a box, "nic" and "network-switch" (`ways`), and "host-memory", for
            devices that cannot do peer-to-peer (`staging`).

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    name: str
    kind: str

    def __post_init__(self) -> None:
        require_name("switch", self.name)
        require_text(f"switch {self.name!r}", "kind", self.kind)
