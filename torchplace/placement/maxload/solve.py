"""The max-load solver: splits of searched orders, annealing, exact search on the kernel, and a proof of how close."""

from __future__ import annotations

import random
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from torchplace.errors import InfeasibleError
from torchplace.placement.maxload.anneal import anneal
from torchplace.placement.maxload.contiguous import best_split
from torchplace.placement.maxload.crowd import Crowd
from torchplace.placement.maxload.exact import search
from torchplace.placement.maxload.kernel import Kernel, kernel
from torchplace.placement.maxload.orders import Units
from torchplace.placement.maxload.problem import Ints, LoadProblem
from torchplace.placement.maxload.relaxation import Bounding, balance

_CLOSE = 1e-4  # relative gap that counts as none
_PLAIN = 4  # orders that are as written, or nearly
_FREE = 60  # items, at most, that are free at once
_BARREN = 150  # children in a row that are no better
_FAILURES = 5  # neighbourhoods in a row without success


@dataclass(frozen=True)
class Answer:
    """A placement, and what is known of the least largest load.

    Attributes:
        placed: [items], each item's device.
        max_load: of the placement.
        lower_bound: no placement has less.
        solver: what found the placement.
    """

    placed: Ints
    max_load: float
    lower_bound: float
    solver: str


class _Search:
    """One search: the best so far, and the clock."""

    def __init__(self, problem: LoadProblem, seconds: float) -> None:
        self.problem, self.end = problem, perf_counter() + seconds
        self.placed, self.max_load, self.solver = np.zeros(problem.count, dtype=np.int64), float("inf"), ""
        self.bounding = Bounding(problem, balance(problem))
        self._kernel: tuple[float, Kernel] | None = None

    def left(self) -> float:
        return self.end - perf_counter()

    def propose(self, placed: Ints, solver: str) -> None:
        load = self.problem.max_load(placed)
        if load < self.max_load:
            self.placed, self.max_load, self.solver = placed, load, solver

    def kernel(self, end: float) -> Kernel:
        """What must stay together in anything better; found anew where the best has changed, until some time."""
        if self._kernel is None or self._kernel[0] > self.max_load:
            self._kernel = self.max_load, kernel(self.problem, self.max_load, until=lambda: perf_counter() > end)
        return self._kernel[1]

    def bound(self, seconds: float) -> None:
        """Raise the bound."""
        if not self.done():
            self.bounding.raise_towards(self.max_load, min(seconds, self.left()))

    def done(self) -> bool:
        return self.max_load <= self.bounding.lower * (1 + _CLOSE) or self.left() <= 0

    def answer(self) -> Answer:
        return Answer(self.placed, self.max_load, self.bounding.lower, self.solver)


def solve(problem: LoadProblem, *, contiguous: bool = False, seconds: float = 25.0, seed: int = 0) -> Answer:
    """Place items so that the largest load is least.

    Args:
        problem: what to place.
        contiguous: no path of the forward pass may leave a device and come back to it.
        seconds: for all.
        seed: of the searches.

    Raises:
        InfeasibleError: no placement was found that fits.
    """
    run = _Search(problem, seconds)
    slices = _Slices(run, seed)
    slices.search(seconds * (0.5 if contiguous else 0.2))
    if not contiguous:
        _anneal(run, 0.15 * seconds, seed)
    if not np.isfinite(run.max_load):
        raise InfeasibleError(f"no placement of {problem.name!r} was found that fits: {_what_lacks(problem)}")
    if not contiguous:
        _whole(run, 0.12 * seconds, seed)
    run.bound(0.9 * run.left() if contiguous else 0.3 * seconds)
    chance = random.Random(seed)
    while not (contiguous or run.done()):
        _neighbourhoods(run, chance)
        slices.search(0.3 * run.left())
        run.bound(0.5 * run.left())
    return run.answer()


def _what_lacks(problem: LoadProblem) -> str:
    room = ", ".join(f"{kind.number} {kind.name} of {kind.capacity:.4g} bytes" for kind in problem.kinds)
    return f"{problem.size.sum():.4g} bytes for {room}"


class _Slices:
    """Searches orders whose best split is good, by a genetic algorithm on random keys (Bean 1994; SliceGraph)."""

    def __init__(self, run: _Search, seed: int) -> None:
        self.run, self.units = run, Units(run.problem)
        self.crowd = Crowd(self.units.plain(), len(self.units.members), seed)

    def search(self, seconds: float) -> None:
        """Go on for some time, or until nothing has got better for long."""
        end, barren, crowd = perf_counter() + seconds, 0, self.crowd
        while barren <= _BARREN and not self.run.done() and (perf_counter() < end or not crowd.members):
            keys = crowd.draw()
            load, placed = best_split(self.run.problem, self.units.order(keys))
            if np.isfinite(load):
                self.run.propose(placed, "slice-ga" if len(crowd.members) >= _PLAIN else "linear-dp")
            barren = 0 if crowd.tell(load, keys) else barren + 1


def _anneal(run: _Search, seconds: float, seed: int) -> None:
    begin = run.placed if np.isfinite(run.max_load) else _any(run.problem)
    if np.isfinite(run.problem.max_load(begin)) and not run.done():
        run.propose(anneal(run.problem, begin, seconds=seconds, seed=seed), "anneal")


def _whole(run: _Search, seconds: float, seed: int) -> None:
    """Search the kernel, all of it: small ones exactly."""
    end = perf_counter() + seconds
    if run.done():
        return
    small = run.kernel(end)
    start, items = small.shrink(run.placed), range(small.problem.count)
    found = search(small.problem, start, items, seconds=max(0.1, end - perf_counter()), seed=seed)
    if found.placed is not None:
        run.propose(small.place(found.placed), "cp-sat")
    run.bounding.tell(min(found.bound, run.max_load))


def _neighbourhoods(run: _Search, chance: random.Random) -> None:
    """Large-neighbourhood search (Shaw 1998): free what is on the busiest device and on others, hold the rest.

    Until some in a row have not helped.
    """
    known, failures = float("inf"), 0
    while failures < _FAILURES and not run.done():
        failures += 1
        if run.max_load < known:
            known, failures = run.max_load, 0
            small = run.kernel(run.end)
            problem, placed = small.problem, small.shrink(run.placed)
            loads = problem.loads(placed)
        devices = {int(loads.argmax()), chance.randrange(len(loads)), chance.randrange(len(loads))}
        free = [item for item in range(problem.count) if int(placed[item]) in devices]
        free = chance.sample(free, min(len(free), _FREE))
        seconds = min(2.0, max(0.1, run.left()))
        found = search(problem, placed, free, seconds=seconds, seed=chance.randrange(10**6))
        if found.placed is not None:
            run.propose(small.place(found.placed), "lns")


def _any(problem: LoadProblem) -> Ints:
    """A placement that fits, largest items first; memory alone is looked at."""
    placed, held = np.zeros(problem.count, dtype=np.int64), np.zeros(len(problem.devices))
    for item in np.argsort(-problem.size, kind="stable"):
        room = [
            d
            for d in range(len(problem.devices))
            if held[d] + problem.size[item] <= problem.capacity[d]
            and np.isfinite(problem.time[problem.kind_of[d], item])
        ]
        placed[item] = min(room, key=lambda d: held[d], default=0)
        held[placed[item]] += problem.size[item]
    return placed
