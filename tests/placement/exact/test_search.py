"""The engines' search, held against trying all placements."""

from __future__ import annotations

import itertools
from math import inf
from time import monotonic

import pytest
from hypothesis import given, settings

from tests.compiler.graphs import chain
from tests.placement.graphs import FLOAT, machine, problem, problems
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.coarse.state import State
from torchplace.placement.exact.cp import CpEngine
from torchplace.placement.exact.engine import Engine
from torchplace.placement.exact.scip import ScipEngine
from torchplace.placement.exact.search import Search
from torchplace.placement.problem import Problem

ENGINES = [CpEngine(), ScipEngine()]
W = 4 * FLOAT


def least(state: State) -> float:
    """The value of the best placement of all, by trying each."""
    coarse, best = state.coarse, inf
    free = [unit for unit in coarse.units if all(coarse.pinned[item] < 0 for item in unit)]
    for where in itertools.product(range(len(coarse.devices)), repeat=len(free)):
        placed = list(state.placed)
        for unit, device in zip(free, where, strict=True):
            for item in unit:
                placed[item] = device
        other = State.of(coarse, placed, state.limits)
        best = min(best, other.value if other.fits else inf)
    return best


def searched(engine: Engine, made: Problem) -> Search | None:
    """A search of a small problem to its end; None where its first placement does not fit, or there are too many."""
    coarse = Coarse.of(made, 6)
    free = [unit for unit in coarse.units if all(coarse.pinned[item] < 0 for item in unit)]
    state = State.of(coarse, [max(0, pin) for pin in coarse.pinned], [made.capacity[d] for d in made.devices])
    if not state.fits or len(made.devices) ** len(free) > 300:
        return None
    search = Search(engine, state, seed=0, until=monotonic() + 30, tell=lambda placed: None)
    search.run(engine.effort)
    return search


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
@settings(max_examples=25)
@given(problems())
def test_a_bound_holds_and_what_is_proved_is_the_best(engine: Engine, made: Problem) -> None:
    search = searched(engine, made)
    if search is None:
        return
    fresh = State.of(search.coarse, search.best, search.state.limits)
    assert fresh.fits
    assert fresh.value == pytest.approx(search.value, abs=1e-9)
    best = least(fresh)
    assert search.bound <= best * (1 + 1e-6) + 1e-9
    assert search.value >= best * (1 - 1e-9)
    if search.proved:
        assert search.value <= best * (1 + 1e-3) + 1e-9


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: type(e).__name__)
def test_a_chain_is_cut_evenly_and_that_is_proved(engine: Engine) -> None:
    made = problem(chain(6), machine([4 * W, 4 * W], bandwidth=1e9), objective="throughput")
    coarse = Coarse.of(made, 6)
    state = State.of(coarse, [0, 0, 0, 0, 1, 1], [4 * W, 4 * W])
    told: list[list[int]] = []
    search = Search(engine, state, seed=0, until=monotonic() + 30, tell=lambda placed: told.append(list(placed)))
    search.run(engine.effort)
    assert (search.value, search.proved) == (3.0, True)
    assert told[-1] == list(search.best)
