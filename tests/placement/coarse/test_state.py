from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import chain
from tests.placement.graphs import FLOAT, machine, perceptron, problem, problems
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.coarse.state import State, Steady, Stepping
from torchplace.placement.problem import Problem

W = 4 * FLOAT
ROOM = 10**9


@given(problems(), st.integers(1, 12), st.data())
def test_what_is_undone_is_as_before(made: Problem, most: int, data: st.DataObject) -> None:
    coarse = Coarse.of(made, most)
    device = st.integers(0, len(made.devices) - 1)
    placed = [data.draw(device) for _ in coarse.items]
    state = State.of(coarse, placed, [ROOM] * len(made.devices))
    assert isinstance(state, Steady if made.objective == "throughput" else Stepping)
    before = (list(state.placed), list(state.held), state.score)
    unit = data.draw(st.sampled_from(coarse.units)) if placed else ()
    there = data.draw(device)
    after = state.attempt([(unit, there)], inf)
    moved = [there if item in unit else at for item, at in enumerate(placed)]
    if any(there in coarse.barred.get(item, ()) for item in unit):
        assert after == inf
    else:
        assert after == pytest.approx(State.of(coarse, moved, [ROOM] * len(made.devices)).score, rel=1e-3)
    state.undo()
    assert (state.placed, state.held) == before[:2]
    assert state.attempt([], inf) == pytest.approx(before[2], rel=1e-6)


def test_what_does_not_fit_costs_infinitely_much() -> None:
    coarse = Coarse.of(problem(chain(4), machine([3 * W, W])), 10)
    state = State.of(coarse, [0, 0, 0, 1], [3 * W, W])
    assert state.fits
    assert state.attempt([((0,), 1)], inf) == inf
    state.undo()
    assert state.attempt([((0,), 1), ((3,), 0)], inf) < inf, "they change places"
    state.accept()
    assert (state.placed, state.fits) == ([1, 0, 0, 0], True)


def test_hot_items() -> None:
    made = problem(perceptron(), machine([ROOM] * 2, bandwidth=1e9), training=True, objective="throughput")
    coarse = Coarse.of(made, 20)
    placed = [int(ops[0] in ("layer0", "grad0")) for ops in coarse.items]
    assert {coarse.items[i][0] for i in State.of(coarse, placed, [ROOM] * 2).hot()} == {
        *("layer1", "layer2", "grad1", "grad2", "back1", "back2")
    }
    slow = problem(perceptron(), machine([ROOM] * 2, bandwidth=1.0), training=True, objective="throughput")
    hot = {coarse.items[i][0] for i in State.of(Coarse.of(slow, 20), placed, [ROOM] * 2).hot()}
    assert {"layer0", "layer1"} <= hot, "the first layer's result is what the slowest link carries"
