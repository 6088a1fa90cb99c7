"""A link: one direction of a connection between two nodes of a topology."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import require_name, require_number, require_text
from torchplace.placement.topology.piece import Piece

_LANES = re.compile(r"-x([0-9]+)$")


@dataclass(frozen=True)
class Link:
    """One direction of a connection between two devices or switches.

    Between two nodes there is at most one link each way: two bonded NVLinks are one link of twice the
    bandwidth.

    Attributes:
        source: name of the node that sends.
        target: name of the node that receives.
        kind: what it is made of, with the number of lanes when that is not one: "pcie3-x16", "nvlink2-x2",
            "qpi", "memory".
        bandwidth: bytes/s, which transfers that cross it at the same time share.
        latency: seconds until the first byte arrives; may be 0.
        pieces: what single transfers cost instead, by their size, in ascending order; those smaller than the first
            piece's cost what `latency` and `bandwidth` say. A route makes sure that no transfer takes less time than a
            smaller one.

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    source: str
    target: str
    kind: str
    bandwidth: float
    latency: float
    pieces: tuple[Piece, ...] = ()

    def __post_init__(self) -> None:
        require_name("link source", self.source)
        require_name("link target", self.target)
        owner = f"link {self.name}"
        if self.source == self.target:
            raise TopologyError(f"{owner}: joins a node to itself, expected two nodes")
        require_text(owner, "kind", self.kind)
        require_number(owner, "bandwidth", self.bandwidth, "bytes/s")
        require_number(owner, "latency", self.latency, "seconds", zero=True)
        object.__setattr__(self, "pieces", tuple(self.pieces))
        for one, other in pairwise(self.pieces):
            if one.nbytes >= other.nbytes:
                raise TopologyError(
                    f"{owner}: a piece from {one.nbytes} bytes on stands before one from {other.nbytes} bytes on, "
                    "expected ascending sizes"
                )

    @property
    def regimes(self) -> tuple[Piece, ...]:
        """What transfers of any size cost: the pieces, and before them what the link itself says."""
        if self.pieces and not self.pieces[0].nbytes:
            return self.pieces
        return (Piece(0, self.latency, self.bandwidth), *self.pieces)

    @property
    def name(self) -> str:
        """How timelines and errors call it: "gpu:0->pcie:0"; unique in a topology."""
        return f"{self.source}->{self.target}"

    @property
    def lanes(self) -> int:
        """Lanes (or bonded links) that its kind ends with: 16 for "pcie3-x16", 1 for "nvlink2"."""
        found = _LANES.search(self.kind)
        return int(found[1]) if found else 1


def both_ways(one: str, other: str, kind: str, bandwidth: float, latency: float) -> tuple[Link, Link]:
    """The two links of a connection that is as fast in one direction as in the other (bytes/s, seconds)."""
    return Link(one, other, kind, bandwidth, latency), Link(other, one, kind, bandwidth, latency)
