"""Simulated annealing of a max-load placement (Kirkpatrick, Gelatt, Vecchi, Science 220, 1983), move by move."""

from __future__ import annotations

import math
import random
from time import perf_counter

from torchplace.placement.maxload.problem import Ints, LoadProblem
from torchplace.placement.maxload.state import State

_SHARPNESS = 12.0
"""Exponent of the loads in what is minimised: the largest counts for most, the next ones still for something."""
_HOT, _COLD = 0.3, 0.002
_AT_ONCE = 256  # moves between two looks at the clock
_MOVES = 2500  # for each item


def anneal(problem: LoadProblem, placed: Ints, *, seconds: float, seed: int = 0) -> Ints:
    """Search from a placement that fits for one with a lower largest load.

    A move takes an item to a device of one that it exchanges values with, now and then to any. Accepted is what lowers
    the sum of the loads to a high power, and by chance what does not.

    Args:
        problem: what to place.
        placed: where to begin.
        seconds: for how long, at most; a number of moves for each item is the end otherwise.
        seed: of the chance. Where time does not run out, the same seed gives the same answer.

    Returns:
        The best placement that was met.
    """
    chance, state = random.Random(seed), State(problem, placed)
    scale = max(state.loads)
    if problem.count < 2 or len(state.loads) < 2 or scale <= 0:
        return placed
    near = _neighbours(problem)
    best, least = list(state.placed), scale
    energy = _energy(state.loads, scale)
    begun, moves = perf_counter(), 0
    while (done := max((perf_counter() - begun) / seconds, moves / (_MOVES * problem.count))) < 1:
        heat = _HOT * (_COLD / _HOT) ** done
        moves += _AT_ONCE
        for _ in range(_AT_ONCE):
            item = chance.randrange(problem.count)
            around = near[item]
            if around and chance.random() < 0.9:
                to = state.placed[around[chance.randrange(len(around))]]
            else:
                to = chance.randrange(len(state.loads))
            if to == state.placed[item] or not state.fits(item, to):
                continue
            change = state.changes(item, to)
            then = _energy([a + b for a, b in zip(state.loads, change, strict=True)], scale)
            if then <= energy or chance.random() < math.exp((energy - then) / (heat * energy)):
                state.move(item, to, change)
                energy = then
                if (now := max(state.loads)) < least * (1 - 1e-12):
                    best, least = list(state.placed), now
        state.loads = problem.loads(state.array).tolist()  # rounding adds up over a million moves
        energy = _energy(state.loads, scale)
    state.placed = best
    return state.array


def _energy(loads: list[float], scale: float) -> float:
    return sum(math.pow(load / scale, _SHARPNESS) for load in loads if load > 0)


def _neighbours(problem: LoadProblem) -> list[list[int]]:
    found: list[set[int]] = [set() for _ in range(problem.count)]
    for value in problem.values:
        for target in value.targets:
            found[value.source].add(target)
            found[target].add(value.source)
    return [sorted(items) for items in found]
