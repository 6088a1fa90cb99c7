"""A topology as a graph in the language of Graphviz: `dot -Tsvg` and its like draw it.

Written by hand: it is short, and `networkx.nx_pydot` does not take names with colons in them, which ours have.
"""

from __future__ import annotations

from collections.abc import Iterator

from torchplace.placement.topology.draw.boxes import Box, Boxes
from torchplace.placement.topology.draw.words import rate
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.topology import Topology

_SHAPES = {
    "cpu-socket": "box3d",
    "host-bridge": "box",
    "pcie-switch": "box",
    "nvswitch": "hexagon",
    "host-memory": "cylinder",
    "nic": "cds",
    "network-switch": "octagon",
}
_OTHER_SHAPE = "ellipse"
_HEAVY = 100e9  # bytes/s of a link that is drawn as the thickest


def dot_text(topology: Topology) -> str:
    """A topology in DOT: devices filled, an edge for the two directions of a link, boxes as clusters.

    An edge says what the link is made of and its bandwidth; where the two directions differ, there are two edges with
    arrows. All of it is written, however large.
    """
    return "\n".join([f"graph {_quoted(topology.name)} {{", *_body(topology), "}", ""])


def _body(topology: Topology) -> Iterator[str]:
    yield '  graph [rankdir=TB, overlap=false, fontname="Helvetica"];'
    yield '  node [fontname="Helvetica", fontsize=10];'
    yield '  edge [fontname="Helvetica", fontsize=8];'
    found, labels = Boxes(topology), _labels(topology)
    for number, box in enumerate(found.boxes):
        yield from _cluster(number, box, labels) if box.prefix else _nodes(box.nodes, labels, "  ")
    yield from _nodes(found.outside, labels, "  ")
    yield from _edges(topology)


def _cluster(number: int, box: Box, labels: dict[str, str]) -> Iterator[str]:
    yield f"  subgraph {_quoted(f'cluster_{number}')} {{"
    yield f"    label={_quoted(box.prefix.rstrip('/'))};"
    yield from _nodes(box.nodes, labels, "    ")
    yield "  }"


def _nodes(names: tuple[str, ...], labels: dict[str, str], indent: str) -> Iterator[str]:
    yield from (f"{indent}{_quoted(name)} [{labels[name]}];" for name in names)


def _labels(topology: Topology) -> dict[str, str]:
    labels = {}
    for device in topology.devices:
        text = _quoted(device.name, device.kind, f"{device.memory / 2**30:.0f} GiB")
        labels[device.name] = f"label={text}, shape=box, style=filled, fillcolor=palegreen"
    for switch in topology.switches:
        shape = _SHAPES.get(switch.kind, _OTHER_SHAPE)
        labels[switch.name] = f"label={_quoted(switch.name, switch.kind)}, shape={shape}"
    return labels


def _edges(topology: Topology) -> Iterator[str]:
    links = {(link.source, link.target): link for link in topology.links}
    for (source, target), link in links.items():
        back = links.get((target, source))
        same = back is not None and (back.kind, back.bandwidth) == (link.kind, link.bandwidth)
        if not same:
            yield f"  {_quoted(source)} -- {_quoted(target)} [{_joint(link)}, dir=forward];"
        elif source < target:
            yield f"  {_quoted(source)} -- {_quoted(target)} [{_joint(link)}];"


def _joint(link: Link) -> str:
    width = 1 + 3 * min(1.0, link.bandwidth / _HEAVY)
    return f"label={_quoted(link.kind, rate(link.bandwidth))}, penwidth={width:.2g}"


def _quoted(*lines: str) -> str:
    """A string of DOT, of one line or more."""
    return '"' + "\\n".join(" ".join(line.split()).replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
