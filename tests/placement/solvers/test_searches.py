"""The solvers that search: `local-search`, `anneal` and `slice-ga`."""

from __future__ import annotations

import pytest

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, Table, machine, perceptron, problem
from torchplace.placement.check import check
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.anneal import Anneal
from torchplace.placement.solvers.local_search import LocalSearch
from torchplace.placement.solvers.registry import Solver
from torchplace.placement.solvers.slice_ga import SliceGa

W = 4 * FLOAT
SEARCHES = [LocalSearch(), Anneal(), SliceGa()]


def branches() -> Problem:
    """Four branches of a long op and a short one each, in an order in which no contiguous cut is even."""
    b = Builder()
    x = b.input("x", 4)
    b.returns(*(b.add_op(b.add_op(x, name=f"short{i}"), name=f"long{i}") for i in range(4)))
    seconds = {"long0": 9.0, "long1": 1.0, "long2": 1.0, "long3": 9.0}
    return problem(b.graph, machine([10**6] * 2, bandwidth=1e9), cost=Table(seconds), objective="throughput")


@pytest.mark.parametrize("solver", SEARCHES, ids=lambda s: s.name)
def test_it_finds_the_even_split(solver: Solver) -> None:
    made = branches()
    assert made.evaluate(solver.solve(made, time_limit=2.0)).value == pytest.approx(12.0)


@pytest.mark.parametrize("solver", SEARCHES, ids=lambda s: s.name)
def test_a_chain_is_cut_evenly(solver: Solver) -> None:
    made = problem(chain(9), machine([10**6] * 3, bandwidth=1e9), objective="throughput")
    assert made.evaluate(solver.solve(made, time_limit=2.0)).value == pytest.approx(3.0)


@pytest.mark.parametrize("solver", SEARCHES[:2], ids=lambda s: s.name)
def test_gradients_of_parameters_go_elsewhere_where_that_is_quicker(solver: Solver) -> None:
    """One step: what nothing waits for can be done beside the backward pass."""
    made = problem(perceptron((4, 4, 4)), machine([10**6] * 2, bandwidth=1e9), training=True)
    alone = made.evaluate(dict.fromkeys(made.ops, "d0")).value
    assert made.evaluate(solver.solve(made, time_limit=2.0)).value < alone


@pytest.mark.parametrize("solver", SEARCHES, ids=lambda s: s.name)
def test_memory_is_kept_to(solver: Solver) -> None:
    made = problem(chain(9), machine([3 * W, 3 * W, 10**6]), objective="throughput")
    assert check(made, solver.solve(made, time_limit=1.0)) == []
