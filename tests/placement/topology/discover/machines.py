"""Machines that can be built: where cards are, and how far they are from each other."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from torchplace.placement.topology.discover.levels import Level, Pair

PLACES = st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=9)


def between(one: tuple[int, ...], other: tuple[int, ...]) -> Level:
    """How far two cards are, each at a socket, a host bridge of it, an outer and an inner switch below that."""
    differ = next((depth for depth in range(4) if one[depth] != other[depth]), 4)
    return (Level.SYSTEM, Level.NODE, Level.BRIDGE, Level.SWITCHES, Level.SWITCH)[differ]


def levels_of(places: list[tuple[int, ...]]) -> tuple[list[str], dict[Pair, Level]]:
    names = [f"gpu:{i}" for i in range(len(places))]
    at = dict(zip(names, places, strict=True))
    return names, {(one, other): between(at[one], at[other]) for one, other in itertools.combinations(names, 2)}
