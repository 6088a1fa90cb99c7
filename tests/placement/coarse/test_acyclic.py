from __future__ import annotations

import networkx as nx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table, machine, problem, problems
from torchplace.placement.coarse.acyclic import SLACK, acyclic
from torchplace.placement.coarse.quotient import Quotient
from torchplace.placement.problem import Problem


def one_way(quotient: Quotient, parts: list[int]) -> bool:
    """Whether no part gets anything back, in the forward pass, of what it handed over."""
    arcs = {(parts[source], parts[target]) for source, target in quotient.arcs}
    return nx.is_directed_acyclic_graph(nx.DiGraph([arc for arc in arcs if arc[0] != arc[1]]))


@given(problems(), st.data())
def test_nothing_comes_back_in_the_forward_pass(made: Problem, data: st.DataObject) -> None:
    quotient = Quotient.of(made)
    count, units = data.draw(st.integers(1, 4)), len(quotient.units)
    parts = data.draw(st.lists(st.integers(0, count - 1), min_size=units, max_size=units))
    found = acyclic(quotient, parts, np.full(units, 1 / max(1, units)), [1 / count] * count)
    assert len(found) == units
    assert set(found) <= set(range(count))
    assert one_way(quotient, found)


def equal(quotient: Quotient, parts: list[int], count: int) -> list[int]:
    units = len(quotient.units)
    return acyclic(quotient, parts, np.full(units, 1 / units), [1 / count] * count)


def test_what_is_balanced_and_goes_one_way_stays() -> None:
    quotient = Quotient.of(problem(chain(6), machine([2**20])))
    assert equal(quotient, [1, 1, 0, 0, 2, 2], 3) == [1, 1, 0, 0, 2, 2]


def test_a_unit_between_is_brought_home() -> None:
    quotient = Quotient.of(problem(chain(8), machine([2**20])))
    found = equal(quotient, [0, 1, 0, 0, 0, 1, 1, 1], 2)
    assert found == [0, 0, 0, 0, 1, 1, 1, 1]


def test_balance_is_restored_after_units_were_pushed() -> None:
    """The first unit is in the last part: all that follows is pushed there, or it is pulled back."""
    quotient = Quotient.of(problem(chain(12), machine([2**20])))
    found = equal(quotient, [2, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 0], 3)
    assert one_way(quotient, found)
    assert max(np.bincount(found)) / 12 <= (1 + SLACK) / 3 + 1e-9


def test_of_moves_that_keep_the_balance_those_are_made_that_save_bytes() -> None:
    b = Builder()
    start = b.add_op(b.input("x", 4), name="start", shape=(1,))
    left = b.add_op(start, name="left", shape=(1000,))
    right = b.add_op(start, name="right", shape=(1,))
    b.add_op(left, name="left_end", shape=(1,))
    graph = b.returns(b.add_op(right, name="right_end", shape=(1,)))
    quotient = Quotient.of(problem(graph, machine([2**20]), cost=Table({"left": 0.01})))
    number = {op: unit for unit, items in enumerate(quotient.units) for i in items for op in quotient.coarse.items[i]}
    parts = [0] * len(quotient.units)
    parts[number["left_end"]] = 1
    weights = quotient.time[0] / quotient.time.sum()
    assert acyclic(quotient, parts, weights, [0.75, 0.25])[number["left"]] == 1
