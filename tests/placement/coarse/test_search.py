from __future__ import annotations

import itertools
from math import inf
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.graphs import chain
from tests.placement.graphs import FLOAT, machine, problem, problems
from torchplace.placement.coarse.levels import levels
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.coarse.search import Budget, Search
from torchplace.placement.coarse.state import State
from torchplace.placement.problem import Problem

FOREVER = 1e9
W = 4 * FLOAT


def budget(placements: int) -> Budget:
    return Budget(monotonic() + FOREVER, placements)


def searched(made: Problem, seed: int) -> Search:
    coarse = Coarse.of(made, 6)
    room = [made.capacity[device] for device in made.devices]
    search = Search(State.of(coarse, [max(0, pin) for pin in coarse.pinned], room), seed)
    search.iterate(levels(coarse, 4), budget(3000), 10)
    return search


@settings(max_examples=40)
@given(problems(), st.integers(0, 3))
def test_it_finds_what_trying_all_finds(made: Problem, seed: int) -> None:
    """Nearly always: it is no exact method, so a few percent of slack, and few devices."""
    search = searched(made, seed)
    state, coarse = search.state, search.state.coarse
    free = [unit for unit in coarse.units if all(coarse.pinned[item] < 0 for item in unit)]
    if search.value == inf or len(made.devices) ** len(free) > 300:
        return
    best = inf
    for where in itertools.product(range(len(made.devices)), repeat=len(free)):
        placed = [max(0, pin) for pin in coarse.pinned]
        for unit, device in zip(free, where, strict=True):
            for item in unit:
                placed[item] = device
        other = State.of(coarse, placed, state.limits)
        best = min(best, other.value if other.fits else inf)
    assert best <= search.value * (1 + 1e-9)
    assert search.value <= best * 1.3 + 1e-9


@given(problems(), st.integers(0, 3))
def test_the_same_seed_finds_the_same(made: Problem, seed: int) -> None:
    one, other = searched(made, seed), searched(made, seed)
    assert (one.best, one.value) == (other.best, other.value)


def test_the_best_is_kept_while_annealing_goes_through_worse() -> None:
    made = problem(chain(8), machine([10**6] * 2, bandwidth=1e9), objective="throughput")
    coarse = Coarse.of(made, 8)
    search = Search(State.of(coarse, [0] * 8, [10**6] * 2), 1)
    search.anneal(levels(coarse, 8)[-1], budget(600), 5.0)
    assert State.of(coarse, search.best, [10**6] * 2).value == 4.0
    assert search.value == pytest.approx(State.of(coarse, search.best, [10**6] * 2).value)


def test_memory_is_a_limit() -> None:
    made = problem(chain(6), machine([4 * W, 2 * W], bandwidth=1e9), objective="throughput")
    coarse = Coarse.of(made, 6)
    search = Search(State.of(coarse, [0, 0, 0, 0, 1, 1], [4 * W, 2 * W]), 0)
    search.iterate(levels(coarse, 6), budget(500), 5)
    assert sum(search.best) == 2, "the second device has room for two"


def test_a_search_ends_with_its_budget() -> None:
    made = problem(chain(8), machine([10**6] * 2))
    coarse = Coarse.of(made, 8)
    search = Search(State.of(coarse, [0] * 8, [10**6] * 2), 0)
    spent = budget(25)
    search.iterate(levels(coarse, 8), spent, 99)
    assert spent.placements <= 0
    assert search.state.scored <= 25 + 5, "kicks are not counted"
    assert Budget(monotonic() - 1, 10).over
