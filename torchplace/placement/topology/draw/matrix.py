"""A topology as the matrix that people know from `nvidia-smi topo -m`, with what its codes are worth here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torchplace.placement.report.units import duration_text
from torchplace.placement.topology.draw.boxes import Box, Boxes
from torchplace.placement.topology.draw.codes import LEGEND, Codes
from torchplace.placement.topology.draw.forest import Forest, sorts
from torchplace.placement.topology.draw.words import columns, counted, rate
from torchplace.placement.topology.route import Route
from torchplace.placement.topology.topology import Topology

_MOST, _SOME = 32, 16
"""Rows of a matrix at most, and how many are shown of a larger one, unless all are asked for."""


def matrix_text(topology: Topology, full: bool = False) -> str:
    """How each device and NIC (row) reaches each other (column), with a legend.

    The legend says what the routes of each code reach: the range of their bandwidths, and of their latencies. A cluster
    has a matrix for each sort of box, and the way from one box to the next in the legend.

    Cost: one route for each pair that is shown, 32 x 32 of each sort of box at most.

    Args:
        topology: what to show.
        full: one matrix of all devices and NICs, however large.
    """
    boxes = Boxes(topology)
    routes = _Routes(topology)
    if full or len(boxes.boxes) == 1:
        whole = Box(tuple(boxes.order), len(topology.devices), "")
        parts = [routes.table(whole, None if full else _MOST)]
    else:
        alike = [group for _, group in sorts(Forest(topology, boxes), boxes)]
        parts = [[f"{group[0].prefix.rstrip('/')}:", *routes.table(group[0], _MOST)] for group in alike]
        routes.note(_between(topology, boxes.boxes, alike))
    return "\n\n".join("\n".join(part) for part in [*parts, routes.legend()])


def _between(topology: Topology, boxes: Sequence[Box], alike: Sequence[Sequence[Box]]) -> Iterator[Route]:
    """Routes between the first devices of two boxes, and of two boxes of each two sorts."""
    some = [*dict.fromkeys([*(group[0] for group in alike), *boxes[:2]])]
    ends = [box.nodes[0] for box in some if box.devices]
    yield from (topology.route(one, other) for one in ends for other in ends if one != other)


class _Routes:
    """The routes that are shown, by their codes."""

    def __init__(self, topology: Topology) -> None:
        self._topology, self._codes = topology, Codes(topology)
        self._kinds = {switch.name: switch.kind for switch in topology.switches}
        self._found: dict[str, list[Route]] = {}

    def note(self, routes: Iterable[Route]) -> None:
        """Takes routes into the legend that are in no table."""
        for route in routes:
            self._code(route)

    def _code(self, route: Route) -> str:
        code = self._codes.name(route)
        self._found.setdefault(code, []).append(route)
        return code

    def table(self, box: Box, most: int | None) -> list[str]:
        """The matrix of one box, of its first nodes where it has more."""
        nics = [node for node in box.nodes if self._kinds.get(node) == "nic"]
        devices = box.nodes[: box.devices]
        names = [*devices, *nics]
        if most is not None and len(names) > most:
            names = names[:_SOME]
        rows = [[box.short(one), *(self._cell(one, other) for other in names)] for one in names]
        lines = columns([["", *map(box.short, names)], *rows])
        left_out = len(devices) + len(nics) - len(names)
        more = f"({counted(left_out, 'more node')} of {len(devices):,} devices and {len(nics):,} NICs: --full)"
        return [*lines, more] if left_out else lines

    def _cell(self, one: str, other: str) -> str:
        return "X" if one == other else self._code(self._topology.route(one, other))

    def legend(self) -> list[str]:
        """What each code that occurs means, and what its routes reach."""
        order = list(LEGEND)
        codes = sorted(self._found, key=lambda code: (order.index(_key(code)), len(code), code))
        rows = [["  X", LEGEND["X"], "", ""]]
        rows += [[f"  {code}", _meaning(code), *_reach(self._found[code])] for code in codes]
        return columns(rows)


def _key(code: str) -> str:
    return "NV#" if code.startswith("NV") else code


def _meaning(code: str) -> str:
    number = code.removeprefix("NV")
    text = LEGEND[_key(code)].replace("#", number)
    return text.replace("1 bonded NVLinks", "one NVLink") if number == "1" else text


def _reach(routes: Sequence[Route]) -> list[str]:
    return [
        _range([rate(bandwidth) for bandwidth in sorted(route.bandwidth for route in routes)]),
        _range([duration_text(latency) for latency in sorted(route.latency for route in routes)]),
    ]


def _range(texts: Sequence[str]) -> str:
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
