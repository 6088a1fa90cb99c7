"""The search: all at once where that is little, else one neighbourhood after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from time import monotonic

from torchplace.placement.coarse.clock import Clock
from torchplace.placement.coarse.levels import Unit, levels
from torchplace.placement.coarse.state import State, Steady
from torchplace.placement.exact.engine import CLOSE, Engine, Outcome
from torchplace.placement.exact.loads import state_loads
from torchplace.placement.exact.model import Model
from torchplace.placement.exact.neighbourhoods import Neighbourhoods
from torchplace.placement.exact.places import Places
from torchplace.placement.exact.schedule import Schedule
from torchplace.placement.exact.traffic import add_traffic

_IDLE = 2
"""Times in a row that the whole is solved and neither the best nor the bound moves, after which it is left."""
_SHARE = 0.5
"""Of the time that is left, at most, for the whole: there are other ways."""
_BARREN = 40
"""Neighbourhoods in a row without success, after which it ends."""
_FREE, _GROW, _SHRINK = 12, 1.15, 0.85
"""Units that are free at first; what their number is multiplied by after one that was solved, and one that was not."""


class Search:
    """A search from a placement on.

    Attributes:
        best: the best placement so far, by the state's value.
        value: its seconds.
        bound: no placement is known to be quicker than that.
    """

    def __init__(
        self, engine: Engine, state: State, *, seed: int, until: float, tell: Callable[[Sequence[int]], None]
    ) -> None:
        """Begin.

        Args:
            engine: solves the models.
            state: scores placements; begins at one that fits.
            seed: of all chance.
            until: `time.monotonic` at which to end.
            tell: is told of every placement that is accepted, if none before was better.
        """
        self.engine, self.state, self.coarse, self.until, self.tell = engine, state, state.coarse, until, tell
        self.chance = random.Random(seed)
        self.levels = levels(self.coarse, 4 * len(self.coarse.devices))
        self.neighbourhoods = Neighbourhoods(state, self.chance)
        self.best, self.value = list(state.placed), state.value
        self.bound = 0.0 if self.levels else self.value

    @property
    def proved(self) -> bool:
        """Whether nothing better exists, by the state's value."""
        return self.value <= self.bound * (1 + 2 * CLOSE)

    def run(self, effort: float) -> None:
        """Search until nothing better exists, or is found for long, or time is over.

        Args:
            effort: for each neighbourhood; ten times as much for the whole.
        """
        if self._over or (self._small and self.whole(10 * effort)):
            return
        sizes, barren = [float(_FREE)] * len(self.levels), 0
        while barren < _BARREN and not self._over:
            level, before = self.chance.randrange(len(self.levels)), self.state.score
            units = self.levels[level]
            ended = self._improve(units, min(len(units), int(sizes[level])), effort)
            sizes[level] = max(4.0, min(len(units), sizes[level]) * (_GROW if ended else _SHRINK))
            barren = 0 if self.state.score < before * (1 - CLOSE) else barren + 1

    @property
    def _over(self) -> bool:
        return self.proved or monotonic() >= self.until

    @property
    def _small(self) -> bool:
        return len(self.levels[-1]) * len(self.coarse.devices) <= self.engine.largest

    def whole(self, effort: float) -> bool:
        """Solve all of it, again with what was found ruled out, until the bound is met or does not get nearer.

        The best of the model need not be the state's: of latency, it is a relaxation.

        Returns:
            Whether every time the end was reached.
        """
        seen: set[tuple[int, ...]] = set()
        idle = 0
        while idle < _IDLE and not self._over:
            before = self.value - self.bound
            model, places = self._model(self.levels[-1], range(len(self.coarse.devices)), whole=True)
            for placed in seen:
                places.forbid(placed)
            outcome = self._solve(model, effort, _SHARE)
            seen |= self._try(places, outcome)
            self.bound = max(self.bound, min(outcome.bound, self.value))
            if not outcome.ended:
                return False
            idle = 0 if self.value - self.bound < before - CLOSE * self.value else idle + 1
        return True

    def _improve(self, units: Sequence[Unit], count: int, effort: float) -> bool:
        """Search one neighbourhood; whether it was searched to its end."""
        free = self.neighbourhoods.draw(units, count)
        model, places = self._model(free, self.neighbourhoods.devices(free), whole=False)
        outcome = self._solve(model, effort)
        self._try(places, outcome)
        return outcome.ended

    def _model(self, free: Sequence[Unit], devices: Collection[int], whole: bool) -> tuple[Model, Places]:
        """The model in which some units are free; of interest is what is better than the state."""
        state, coarse = self.state, self.coarse
        model = Model(state.value, self.engine.scale)
        places = Places(model, coarse, state.placed, free, devices, state.limits)
        if isinstance(state, Steady):
            state_loads(model, places, None if whole else {state.placed[unit[0]] for unit in free})
        else:
            schedule = Schedule(model, places, Clock(coarse).starts(state.placed), keep=not whole)
            if whole and self.engine.takes_turns:
                add_traffic(schedule)
        return model, places

    def _solve(self, model: Model, effort: float, share: float = 1.0) -> Outcome:
        seconds = max(0.01, share * (self.until - monotonic()))
        return self.engine.solve(model, seconds=seconds, effort=effort, seed=self.chance.randrange(2**31))

    def _try(self, places: Places, outcome: Outcome) -> set[tuple[int, ...]]:
        """Go on from what is no worse than the state; returns the placements that were seen."""
        found = [tuple(places.chosen(values)) for values in reversed(outcome.solutions)]
        for placed in dict.fromkeys(found):
            self._enter(placed)
        return set(found)

    def _enter(self, placed: Sequence[int]) -> None:
        state = self.state
        moves = [((item,), there) for item, there in enumerate(placed) if state.placed[item] != there]
        if not moves:
            return
        limit = state.score * (1 + 1e-12)
        if state.attempt(moves, limit) > limit or not state.fits:
            state.undo()
            return
        state.accept()
        if state.value <= self.value:
            self.best, self.value = list(placed), state.value
            self.tell(placed)
