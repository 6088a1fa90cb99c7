"""A genetic algorithm on random keys: orders are bred from the keys of those that did well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from torchplace.placement.maxload.problem import Floats

_ELITE, _CROWD = 4, 12


class Crowd:
    """The best keys so far, and what is tried next.

    Bean, "Genetic algorithms and random keys for sequencing and optimization" (ORSA Journal on Computing 6, 1994); used
    for orders that a dynamic program cuts by Archer et al., "Practical Performance Guarantees for Pipelined DNN
    Inference" (ICML 2024; SliceGraph).

    Args:
        plain: keys to begin with, each [number].
        number: keys in a set.
        seed: of what is drawn.
    """

    def __init__(self, plain: Iterable[Floats], number: int, seed: int) -> None:
        self.chance, self.number = np.random.default_rng(seed), number
        self.members: list[tuple[float, Floats]] = []
        self._keys = self._all(plain)

    def draw(self) -> Floats:
        """Keys to try: the plain ones, then children of what was good, and now and then something new."""
        return next(self._keys)

    def tell(self, score: float, keys: Floats) -> bool:
        """How good keys were, less being better; whether they are the best so far."""
        best = not self.members or score < self.members[0][0] * (1 - 1e-9)
        self.members.append((score, keys))
        self.members.sort(key=lambda member: member[0])
        del self.members[_CROWD:]
        return best

    def _all(self, plain: Iterable[Floats]) -> Iterator[Floats]:
        yield from (keys.argsort(kind="stable").argsort() / max(1, self.number) for keys in plain)
        while True:
            yield self.chance.random(self.number) if self.chance.random() < 0.1 else self._child()

    def _child(self) -> Floats:
        chance, members = self.chance, self.members
        one = members[chance.integers(min(_ELITE, len(members)))][1]
        other = members[chance.integers(len(members))][1]
        child = np.where(chance.random(len(one)) < 0.7, one, other)
        shaken = chance.random(len(child)) < chance.choice([0.0, 0.02, 0.1])
        return np.where(shaken, chance.random(len(child)), child)
