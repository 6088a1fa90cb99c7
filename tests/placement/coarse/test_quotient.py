from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import machine, perceptron, problem, problems
from torchplace.compiler.graph import Graph
from torchplace.placement.coarse.quotient import Quotient
from torchplace.placement.problem import Problem


def names(quotient: Quotient) -> list[set[str]]:
    """The ops of each unit."""
    return [{op for item in unit for op in quotient.coarse.items[item]} for unit in quotient.units]


@given(problems(), st.integers(1, 6))
def test_every_op_is_in_one_unit_and_groups_are_whole(made: Problem, most: int) -> None:
    for quotient in (Quotient.of(made), Quotient.of(made).shrunk(most)):
        units = names(quotient)
        assert sorted(op for unit in units for op in unit) == sorted(made.ops)
        for group in made.groups:
            assert sum(bool(unit & {*group}) for unit in units) == 1


@given(problems(), st.integers(1, 6))
def test_the_forward_pass_flows_from_unit_to_unit(made: Problem, most: int) -> None:
    for quotient in (Quotient.of(made), Quotient.of(made).shrunk(most)):
        unit_of = {op: i for i, unit in enumerate(names(quotient)) for op in unit}
        assert all(source < target for source, target in quotient.arcs)
        for edge in made.edges:
            if made.by_name[edge.target].phase == "forward" or not made.training:
                assert unit_of[edge.source] <= unit_of[edge.target]


@given(problems(), st.data())
def test_weights_are_those_of_the_ops_and_pins_are_kept(made: Problem, data: st.DataObject) -> None:
    quotient = Quotient.of(made)
    devices = st.integers(0, len(made.devices) - 1)
    placed = data.draw(st.lists(devices, min_size=len(quotient.units), max_size=len(quotient.units)))
    placement = quotient.coarse.place(quotient.placed(placed))
    resident, busy = list(quotient.held), list(quotient.busy)
    for unit, device in enumerate(placed):
        resident[device] += int(quotient.size[unit])
        busy[device] += quotient.time[quotient.coarse.kind_of[device], unit]
    assert resident == list(made.resident(placement).values())
    assert all(placement[op] == device for op, device in made.pins.items())
    for number, device in enumerate(made.devices):
        seconds = sum(made.duration(op, device) for op in made.ops if placement[op] == device)
        assert abs(busy[number] - seconds) < 1e-9


def test_the_backward_pass_stands_with_the_forward_pass() -> None:
    quotient = Quotient.of(problem(perceptron((8, 4, 2)), machine([2**20] * 2), training=True))
    assert names(quotient) == [
        {"layer0", "grad0"},
        {"layer1", "grad1", "back1"},
        {"layer2", "grad2", "back2"},
    ]
    handed = {(value.source, value.targets): value.nbytes for value in quotient.values}
    assert handed == {(0, (1,)): 32, (1, (2,)): 16, (1, (0,)): 16, (2, (1,)): 8}


def test_a_group_that_a_path_leaves_and_returns_to_is_one_unit() -> None:
    b = Builder()
    state = b.buffer("state", 4)
    first = b.add_op(b.input("x", 4), state, name="first")
    between = b.add_op(first, name="between")
    last = b.add_op(between, name="last")
    b.update(state, last, name="write")
    quotient = Quotient.of(problem(b.returns(last), machine([2**20])))
    assert {"first", "write"} <= names(quotient)[0]


def test_what_is_pinned_keeps_its_place_and_weighs_nothing() -> None:
    quotient = Quotient.of(problem(chain(3), machine([2**20] * 2), pins={"v1": "d1"}))
    assert quotient.values == ()
    assert quotient.busy == (0.0, 1.0)
    assert quotient.time.sum() == 2.0


def test_no_op() -> None:
    quotient = Quotient.of(problem(Graph("empty"), machine([1])))
    assert (quotient.units, quotient.arcs, quotient.values) == ((), (), ())
