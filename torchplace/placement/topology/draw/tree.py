"""A topology as a tree in plain text: from sockets down to devices, box by box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torchplace.placement.topology.draw.boxes import Box, Boxes
from torchplace.placement.topology.draw.forest import Forest, Row, sorts
from torchplace.placement.topology.draw.kinds import kinds_lines
from torchplace.placement.topology.draw.words import columns, counted, names_text
from torchplace.placement.topology.topology import Topology

_HEAD = Row("node", "kind", "link up", "other links")
_GROUPS = 4
"""Co-run groups that are listed, unless all are asked for."""


def draw_text(topology: Topology, full: bool = False) -> str:
    """A topology as a tree in plain text: its devices as a table, then each box with what hangs on what.

    Boxes of a cluster that are alike are drawn once, and so are long runs of leaves that are.

    Cost: near-linear in nodes + links.

    Args:
        topology: what to draw.
        full: draw all of it, however large.
    """
    counts = f"{counted(len(topology.devices), 'device')}, {counted(len(topology.switches), 'switch')}"
    head = f"{topology.name}: {counts}, {counted(len(topology.links), 'link')} (one for each direction)"
    groups = topology.coruns[: None if full else _GROUPS]
    shared = [f"{names_text(group.devices)} share {group.name}" for group in groups]
    parts = [[head], kinds_lines(topology, full), *_tables(topology, full), shared]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _tables(topology: Topology, full: bool) -> Iterator[list[str]]:
    boxes = Boxes(topology)
    forest = Forest(topology, boxes)
    for rows, alike in sorts(forest, boxes, full):
        yield [*_title(alike), *_lines(rows)]
    outside = list(forest.outside())
    if outside:
        yield _lines(outside)


def _title(boxes: Sequence[Box]) -> list[str]:
    prefix, others = boxes[0].prefix, [box.prefix.rstrip("/") for box in boxes[1:]]
    if not prefix:
        return []
    more = f", and {len(others):,} like it ({names_text(others)})" if others else ""
    return [f"{prefix.rstrip('/')}{more}:"]


def _lines(rows: Iterable[Row]) -> list[str]:
    return columns([_HEAD.cells, *(row.cells for row in rows)])
