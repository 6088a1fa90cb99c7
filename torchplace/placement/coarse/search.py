"""Local search over the items of a problem, level by level, from large pieces to small ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log
from time import monotonic

from torchplace.placement.coarse.levels import Unit
from torchplace.placement.coarse.state import Move, State

_NO_WORSE = 1 + 1e-12


@dataclass
class Budget:
    """How much a search may do: until a time, or so many placements.

    Where the time suffices for all of the placements, a search does the same again with the same seed.

    Attributes:
        until: `time.monotonic` at which it ends.
        placements: that may still be scored.
    """

    until: float
    placements: int

    @classmethod
    def of(cls, state: State, seconds: float, until: float) -> Budget:
        """As many placements as most machines score in so many seconds, and not beyond a time (`time.monotonic`)."""
        return cls(until, int(seconds * state.per_second))

    @property
    def over(self) -> bool:
        """Whether nothing may be done any more."""
        return self.placements <= 0 or monotonic() >= self.until


class Search:
    """A search: its state, its chance, and the best placement so far.

    Attributes:
        state: that is changed.
        chance: what it draws from.
        best: the best placement that fits.
        value: the seconds that it takes; infinite where none has been seen.
        score: that tells it from others that take as long.
        ends: placements that fit at which descents ended since they were last asked for, with the seconds each takes.
    """

    def __init__(self, state: State, seed: int) -> None:
        """Begin at a state's placement; the best is that, if it fits."""
        self.state, self.chance = state, random.Random(seed)
        self.best, self.value, self.score = list(state.placed), state.value if state.fits else inf, state.score
        self.ends: list[tuple[float, list[int]]] = []
        self.when = 0  # placements scored when the best was found

    def descend(self, levels: Sequence[Sequence[Unit]], budget: Budget) -> None:
        """Make what moves help, level by level, until none is found for long."""
        for units in levels:
            self._descend_one(_Moves(self, units), budget, patience=3 * len(units) + 20)

    def _descend_one(self, moves: _Moves, budget: Budget, patience: int) -> None:
        barren = 0
        while barren < patience and not budget.over:
            barren = 0 if self._try(moves.draw(), budget, self.state.score) else barren + 1

    def anneal(self, units: Sequence[Unit], budget: Budget, heat: float) -> None:
        """Simulated annealing (Kirkpatrick et al. 1983): a worse score is accepted the more rarely the colder it is.

        Args:
            units: what moves.
            budget: when its placements are used up all is cold.
            heat: at first, the rise of the score, as a part of it, that is accepted one time in e.
        """
        moves, whole, begun = _Moves(self, units), max(1, budget.placements), monotonic()
        while not budget.over:
            left = (budget.until - monotonic()) / max(1e-9, budget.until - begun)
            warm = min(budget.placements / whole, left + 0.2)  # on a slow machine it is time that cools
            rise = heat * warm**2 * -log(1 - self.chance.random())
            self._try(moves.draw(), budget, self.state.score * (1 + rise))

    def kick(self, units: Sequence[Unit]) -> None:
        """Go back to the best, and move a few units anywhere, to search on from there."""
        self.restart(self.best)
        devices = len(self.state.coarse.devices)
        for unit in self.chance.sample(units, min(len(units), self.chance.randint(1, 3))):
            if self.state.attempt([(unit, self.chance.randrange(devices))], inf) < inf:
                self.state.accept()
            else:
                self.state.undo()

    def iterate(self, levels: Sequence[Sequence[Unit]], budget: Budget, barren: int) -> None:
        """Descend, kick, descend again, until so many in a row are in vain (iterated local search: Lourenço 2003).

        Args:
            levels: from coarse to fine; kicks move units of the second.
            budget: for all.
            barren: descents in a row that find nothing better.
        """
        failed = 0
        while levels:
            before, placements = self.value, budget.placements
            self.descend(levels, budget)
            if self.state.fits:
                self.ends.append((self.state.value, list(self.state.placed)))
            failed = 0 if self.value < before else failed + 1
            if failed >= barren or budget.over or budget.placements == placements:
                return
            self.kick(levels[min(1, len(levels) - 1)])

    def runners_up(self, most: int, near: float) -> list[list[int]]:
        """Where descents ended almost as low as the best, the lowest first; each is told once.

        Args:
            most: how many.
            near: how much more time they may take than the best, as a part of it.
        """
        ended, self.ends = sorted(self.ends), []
        told = {tuple(placed): placed for value, placed in ended if value <= self.value * (1 + near)}
        told.pop(tuple(self.best), None)
        return list(told.values())[:most]

    def restart(self, placed: Sequence[int]) -> None:
        """Go on from another placement."""
        moves = [((item,), there) for item, there in enumerate(placed) if self.state.placed[item] != there]
        self.state.attempt(moves, inf)
        self.state.accept()

    def _try(self, moves: Sequence[Move], budget: Budget, limit: float) -> bool:
        """Make moves if the score stays within a limit; whether it fell."""
        if not moves:
            budget.placements -= 1
            return False
        before = self.state.score
        after = self.state.attempt(moves, limit * _NO_WORSE)
        budget.placements -= 1
        if after > limit * _NO_WORSE:
            self.state.undo()
            return False
        self.state.accept()
        if (self.state.value, after) < (self.value, self.score) and self.state.fits:
            self.best, self.value, self.when = list(self.state.placed), self.state.value, self.state.scored
            self.score = after
        return after < before * (1 - 1e-9)


class _Moves:
    """Suggests moves: mostly of what makes it take long, to where its neighbours are."""

    def __init__(self, search: Search, units: Sequence[Unit]) -> None:
        self.search, self.units = search, units
        self.unit_of = {item: number for number, unit in enumerate(units) for item in unit}
        self.hot: list[int] = []
        self.known = -1.0

    def draw(self) -> list[Move]:
        """Some units, and where to."""
        chance, state = self.search.chance, self.search.state
        number = self._unit()
        if number is None:
            return []
        unit = self.units[number]
        here = state.placed[unit[0]]
        there = self._where(unit, here)
        if there == here:
            return []
        moves: list[Move] = [(unit, there)]
        kind = chance.random()
        if kind < 0.25:  # the neighbours on the way come along
            moves += [(self.units[n], there) for n in self._along(number, here)]
        elif kind < 0.4:  # and something goes back
            back = [n for n in self._sample(8) if state.placed[self.units[n][0]] == there]
            moves += [(self.units[n], here) for n in back[:1]]
        return moves

    def _sample(self, count: int) -> list[int]:
        return [self.search.chance.randrange(len(self.units)) for _ in range(count)]

    def _unit(self) -> int | None:
        chance, state = self.search.chance, self.search.state
        if chance.random() < 0.3:
            return chance.randrange(len(self.units))
        if state.score != self.known:
            self.known = state.score
            self.hot = [self.unit_of[item] for item in state.hot() if item in self.unit_of]
        return chance.choice(self.hot) if self.hot else chance.randrange(len(self.units))

    def _where(self, unit: Unit, here: int) -> int:
        chance, state = self.search.chance, self.search.state
        if chance.random() < 0.6:
            near = {state.placed[other] for item in unit[:32] for other in state.coarse.near[item]} - {here}
            if near:
                return chance.choice(sorted(near))
        return chance.randrange(len(state.coarse.devices))

    def _along(self, number: int, here: int) -> Iterator[int]:
        """Units of the same device that follow, or come before, in the order of the program."""
        step, state = self.search.chance.choice((-1, 1)), self.search.state
        for n in range(number + step, number + step * self.search.chance.randint(2, 9), step):
            if not 0 <= n < len(self.units) or state.placed[self.units[n][0]] != here:
                return
            yield n
