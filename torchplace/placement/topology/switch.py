"""A switch: something that forwards data and runs no ops."""

from __future__ import annotations

from dataclasses import dataclass

from torchplace.placement.topology.checks import require_name, require_text


@dataclass(frozen=True)
class Switch:
    """Something that forwards data and runs no ops.

    Attributes:
        name: unique in its topology, such as "pcie:0".
        kind: "pcie-switch", "cpu-socket" (with the PCIe host bridge in it), "nvswitch", "host-memory",
            "network-switch" or "nic". Others are allowed: routing treats them alike, only drawings tell
            them apart.

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    name: str
    kind: str

    def __post_init__(self) -> None:
        require_name("switch", self.name)
        require_text(f"switch {self.name!r}", "kind", self.kind)
