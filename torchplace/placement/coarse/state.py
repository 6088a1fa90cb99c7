"""A placement that a search changes step by step: what it costs, and whether it fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf

from torchplace.placement.coarse.clock import Clock
from torchplace.placement.coarse.loads import Loads
from torchplace.placement.coarse.model import Coarse

Move = tuple[Sequence[int], int]
"""Items, and the device that they go to."""


class State(ABC):
    """Where the items are.

    Attributes:
        coarse: the items.
        placed: the device of each.
        limits: bytes that may stay on each device.
        score: what the search lowers.
        value: seconds of what the problem's objective says, by the coarse model.
        scored: how many placements have been scored.
    """

    score: float
    value: float
    per_second: float
    """Placements that most machines score in a second: below what a slow core does."""

    def __init__(self, coarse: Coarse, placed: Sequence[int], limits: Sequence[int]) -> None:
        """Begin with a placement; `limits` are bytes that may stay on each device."""
        self.coarse, self.placed, self.limits = coarse, list(placed), limits
        self.held, self.scored = coarse.held(placed), 0
        self._before: list[Move] = []

    @classmethod
    def of(cls, coarse: Coarse, placed: Sequence[int], limits: Sequence[int]) -> State:
        """The state of a search for the problem's objective."""
        kind = Steady if coarse.problem.steady else Stepping
        return kind(coarse, placed, limits)

    @property
    def fits(self) -> bool:
        """Whether what stays is within the limits, and nothing is where it must not be."""
        if any(self.placed[item] in devices for item, devices in self.coarse.barred.items()):
            return False
        return all(held <= limit for held, limit in zip(self.held, self.limits, strict=True))

    def attempt(self, moves: Sequence[Move], below: float) -> float:
        """Make moves, and score them; `undo` takes them back.

        Args:
            moves: what goes where.
            below: a score that is not below it need not be exact.

        Returns:
            The score; infinite where memory does not suffice or a device is forbidden. Cost: of `Steady`, linear in the
            values that the items touch; of `Stepping`, in all of them.
        """
        self._before = []
        for items, there in moves:
            for item in items:
                self._before.append(((item,), self.placed[item]))
                self._shift(item, there)
        self.scored += 1
        touched = {there for _, there in moves}
        if any(self.held[there] > self.limits[there] for there in touched):
            return inf
        barred = self.coarse.barred
        if barred and any(there in barred.get(item, ()) for items, there in moves for item in items):
            return inf
        return self._measure(below)

    def undo(self) -> None:
        """Take back the moves that were attempted last."""
        for (item,), here in reversed(self._before):
            self._shift(item, here)

    def _shift(self, item: int, there: int) -> None:
        self.held[self.placed[item]] -= self.coarse.size[item]
        self.held[there] += self.coarse.size[item]
        self._move(item, there)

    @abstractmethod
    def _move(self, item: int, there: int) -> None:
        """Put an item elsewhere."""

    @abstractmethod
    def _measure(self, below: float) -> float:
        """The score of what is."""

    @abstractmethod
    def accept(self) -> None:
        """Stand by the moves that were attempted last."""

    @abstractmethod
    def hot(self) -> list[int]:
        """Items that make it take as long as it does: those whose moves may help."""


class Stepping(State):
    """For few seconds of one step."""

    def __init__(self, coarse: Coarse, placed: Sequence[int], limits: Sequence[int]) -> None:
        """See `State`."""
        super().__init__(coarse, placed, limits)
        self.clock = Clock(coarse)
        self.per_second = 1e5 / (20 + len(coarse.items))
        self.score = self.value = self._last = self.clock.step_time(placed)

    def _move(self, item: int, there: int) -> None:
        self.placed[item] = there

    def _measure(self, below: float) -> float:
        self._last = self.clock.step_time(self.placed, below)
        return self._last

    def accept(self) -> None:
        """Stand by the last moves."""
        self.score = self.value = self._last

    def hot(self) -> list[int]:
        """Items on the critical path: each begins when the one before it lets it."""
        return self.clock.critical(self.placed)


class Steady(State):
    """For few seconds from step to step."""

    def __init__(self, coarse: Coarse, placed: Sequence[int], limits: Sequence[int]) -> None:
        """See `State`."""
        super().__init__(coarse, placed, limits)
        self.loads = Loads(coarse, placed)
        self.per_second = 5e3
        self.score, self.value = self.loads.norm, self.loads.period

    def _move(self, item: int, there: int) -> None:
        self.loads.move((item,), there)
        self.placed[item] = there

    def _measure(self, below: float) -> float:
        return self.loads.norm

    def accept(self) -> None:
        """Stand by the last moves."""
        self.score, self.value = self.loads.norm, self.loads.period

    def hot(self) -> list[int]:
        """Items on the busiest device, or that send over the busiest link or receive over it."""
        busiest = max(self.loads.device)
        if busiest >= max(self.loads.link.values(), default=0.0):
            at = self.loads.device.index(busiest)
            return [item for item, there in enumerate(self.placed) if there == at]
        link = max(self.loads.link, key=lambda number: self.loads.link[number])
        return sorted(self._over(link))

    def _over(self, link: int) -> set[int]:
        found: set[int] = set()
        for value in self.coarse.values:
            here = self.placed[value.source]
            for target in value.targets:
                there = self.placed[target]
                if there != here and any(number == link for number, _ in self.coarse.way(here, there).links):
                    found |= {value.source, target}
        return found
