"""Which of some devices that are alike gets which piece: pieces that hand each other much should be near."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from torchplace.placement.coarse.model import Coarse

STARTS, MAX_LOOKS = 20, 30_000
"""Where to begin: as it is, and shuffled; neighbours of pieces that are looked at in all."""
_LESS = 1 - 1e-9


def arrange(coarse: Coarse, placed: Sequence[int], alike: Iterable[Sequence[int]]) -> list[int]:
    """Exchange what is on two devices, as long as that makes links less busy: a pairwise interchange.

    Koopmans and Beckmann, "Assignment problems and the location of economic activities" (Econometrica 25, 1957), state
    the problem, which is NP-hard; exchanges end in a local optimum, and the best of some is taken. What is kept low is
    the sum of the squares of the links' busy seconds: one that is busy for two counts more than two that are for one.

    Args:
        coarse: the items.
        placed: the device of each.
        alike: devices that may exchange all that they have: as fast as each other, and with as much room.

    Returns:
        The device of each item; what is pinned stays. Deterministic. Cost: linear in the values; then, for each
        exchange that is tried, the neighbours of two pieces, times the links between them; `MAX_LOOKS` in all.
    """
    groups = [sorted(devices) for devices in alike if len(devices) > 1]
    pieces, chance, left = _Pieces(coarse, placed), random.Random(0), MAX_LOOKS
    best = pieces.cost, list(pieces.at)
    for start in range(STARTS):
        if not groups or left <= 0:
            break
        for devices in groups if start else ():
            pieces.shuffle(devices, chance)
        left = _descend(pieces, groups, left)
        if pieces.cost < best[0] * _LESS:
            best = pieces.cost, list(pieces.at)
    return [there if coarse.pinned[item] >= 0 else best[1][there] for item, there in enumerate(placed)]


def _descend(pieces: _Pieces, groups: Sequence[Sequence[int]], looks: int) -> int:
    """Exchange pairs until none helps, or so many looks were taken; how many are left."""
    improved = True
    while improved and looks > 0:
        improved = False
        for one, other in (pair for devices in groups for pair in combinations(devices, 2)):
            near = len(pieces.near[one]) + len(pieces.near[other])
            if near and looks > 0:
                looks -= near
                improved |= pieces.try_exchange(one, other)
    return looks


class _Pieces:
    """What devices have been given, by the number of the device that it was given to, and where it is now.

    What is pinned to a device is a piece of its own, which never moves: its number is beyond those of the devices.
    """

    def __init__(self, coarse: Coarse, placed: Sequence[int]) -> None:
        devices = range(len(coarse.devices))
        self.coarse, self.at = coarse, [*devices, *devices]
        self.near: list[dict[int, list[int]]] = [{} for _ in self.at]  # piece -> other -> [bytes to it, bytes from it]
        self.busy: dict[int, float] = {}
        self.cost = 0.0
        count = len(devices)
        piece = [there + count * (coarse.pinned[item] >= 0) for item, there in enumerate(placed)]
        for value in coarse.values:
            source = piece[value.source]
            for target in {piece[t] for t in value.targets} - {source}:
                self.near[source].setdefault(target, [0, 0])[0] += value.nbytes
                self.near[target].setdefault(source, [0, 0])[1] += value.nbytes
        for number in range(len(self.near)):
            for other, nbytes, outwards in self._flows(number):
                if outwards:
                    self._carry(number, other, nbytes)

    def try_exchange(self, one: int, other: int) -> bool:
        """Exchange two pieces if that lowers the cost; whether it did."""
        before = self.cost
        self._exchange(one, other)
        if self.cost < before * _LESS:
            return True
        self._exchange(one, other)
        return False

    def shuffle(self, pieces: Sequence[int], chance: random.Random) -> None:
        """Let some pieces exchange their devices at random."""
        for last in range(len(pieces) - 1, 0, -1):
            self._exchange(pieces[last], pieces[chance.randrange(last + 1)])

    def _exchange(self, one: int, other: int) -> None:
        self._carry_all(one, other, -1)
        self.at[one], self.at[other] = self.at[other], self.at[one]
        self._carry_all(one, other, 1)

    def _carry_all(self, one: int, other: int, sign: int) -> None:
        for piece in (one, other):
            for neighbour, nbytes, outwards in self._flows(piece):
                if piece == other and neighbour == one:
                    continue  # told by the first
                ends = (piece, neighbour) if outwards else (neighbour, piece)
                self._carry(*ends, sign * nbytes)

    def _flows(self, piece: int) -> Iterator[tuple[int, int, bool]]:
        for neighbour, (outwards, inwards) in self.near[piece].items():
            yield neighbour, outwards, True
            yield neighbour, inwards, False

    def _carry(self, source: int, target: int, nbytes: int) -> None:
        here, there = self.at[source], self.at[target]
        if here == there or not nbytes:
            return
        for link, per_byte in self.coarse.way(here, there).links:
            before = self.busy.get(link, 0.0)
            self.busy[link] = after = before + nbytes * per_byte
            self.cost += after * after - before * before
