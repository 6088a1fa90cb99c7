"""Directed graphs without cycles, made by chance, with values that are handed along their arcs and against them."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from torchplace.placement.coarse.trifles import Shared


class Dag(NamedTuple):
    """Nodes 0, 1...; arcs from lower numbers to higher ones; values between any nodes."""

    count: int
    arcs: list[tuple[int, int]]
    values: list[Shared]


@st.composite
def dags(draw: st.DrawFn, most: int = 7) -> Dag:
    count = draw(st.integers(0, most))
    pairs = [(source, target) for target in range(count) for source in range(target)]
    arcs = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    values = []
    for _ in range(draw(st.integers(0, 6)) if count > 1 else 0):
        source, *targets = draw(st.lists(st.integers(0, count - 1), min_size=2, unique=True))
        values.append(Shared(source, tuple(sorted(targets)), draw(st.integers(1, 99))))
    return Dag(count, arcs, values)


def is_closed(nodes: set[int], arcs: list[tuple[int, int]]) -> bool:
    """Whether all that leads to a node is there, too."""
    return all(source in nodes for source, target in arcs if target in nodes)
