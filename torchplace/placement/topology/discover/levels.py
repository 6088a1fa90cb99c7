"""How far the cards of a machine are from each other over PCIe, and the groups that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum


class Level(IntEnum):
    """What is between two cards, from near to far; the values order them."""

    SWITCH = 1
    SWITCHES = 2
    BRIDGE = 3
    NODE = 4
    SYSTEM = 5


CODES = {
    "PSB": Level.SWITCH,
    "PIX": Level.SWITCH,
    "PXB": Level.SWITCHES,
    "PHB": Level.BRIDGE,
    "NODE": Level.NODE,
    "SYS": Level.SYSTEM,
    "SOC": Level.SYSTEM,
}
"""The levels by the codes that `nvidia-smi topo -m` prints; PSB is PIX on one board, SOC is SYS of old drivers."""

NAMES = {Level.SWITCH: "PIX", Level.SWITCHES: "PXB", Level.BRIDGE: "PHB", Level.NODE: "NODE", Level.SYSTEM: "SYS"}

Pair = tuple[str, str]
"""Two cards, in the order in which the machine lists them."""


class Groups:
    """Cards that are within each level of each other.

    "At most one switch between" and so on are equivalences on a real machine, so each level parts the cards into
    groups, and the groups of a nearer level are inside those of a farther one.

    Cost: for each level, near-linear in cards + pairs.

    Args:
        names: the cards.
        levels: what is known of pairs; others are as far from each other as that allows.
    """

    def __init__(self, names: Sequence[str], levels: Mapping[Pair, Level]) -> None:
        self._names, self._levels = tuple(names), levels
        self._heads: dict[Level, dict[str, str]] = {}
        heads = {name: name for name in names}
        for level in Level:
            for pair, far in levels.items():
                if far <= level:
                    _join(heads, *pair)
            if level is not Level.SYSTEM:
                self._heads[level] = {name: _head(heads, name) for name in names}

    def together(self, one: str, other: str, level: Level) -> bool:
        """Whether two cards are within a level of each other."""
        return level is Level.SYSTEM or self._heads[level][one] == self._heads[level][other]

    def contradiction(self) -> Pair | None:
        """A pair that is said to be farther apart than what is between them allows; None where there is none."""
        return next(
            (
                pair
                for pair, level in self._levels.items()
                if level > Level.SWITCH and self.together(*pair, Level(level - 1))
            ),
            None,
        )

    def parts(self, names: Iterable[str], level: Level) -> list[list[str]]:
        """The groups of a level among some cards, in order of their first cards."""
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self._heads[level][name], []).append(name)
        return list(found.values())


def _head(heads: dict[str, str], name: str) -> str:
    while heads[name] != name:
        heads[name] = heads[heads[name]]
        name = heads[name]
    return name


def _join(heads: dict[str, str], one: str, other: str) -> None:
    heads[_head(heads, other)] = _head(heads, one)


def completed(
    names: Sequence[str], levels: Mapping[Pair, Level], unknown: Iterable[Pair], affinity: Mapping[str, str]
) -> dict[Pair, Level]:
    """Adds what CPU affinities tell of pairs that are hidden behind NVLinks: one socket, or two.

    A pair with one affinity is taken to be below one host bridge, or, where that contradicts what is known, in one NUMA
    node; a pair with two affinities is in two. Nothing is added where it contradicts, or an affinity is not known.

    Cost: grouping for each pair that is unknown; for tens of cards.
    """
    found = dict(levels)
    for pair in unknown:
        one, other = (affinity.get(name) for name in pair)
        if one is None or other is None:
            continue
        guesses = (Level.BRIDGE, Level.NODE) if one == other else (Level.SYSTEM,)
        for guess in guesses:
            tried = {**found, pair: guess}
            if Groups(names, tried).contradiction() is None:
                found = tried
                break
    return found
