from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import chain
from tests.placement.graphs import machine, perceptron, problem, problems
from torchplace.placement.coarse.model import END, MADE, START, Coarse, Handed
from torchplace.placement.problem import Problem


@given(problems(), st.integers(1, 12), st.data())
def test_it_is_the_same_problem_in_fewer_pieces(made: Problem, most: int, data: st.DataObject) -> None:
    coarse = Coarse.of(made, most)
    assert sorted(op for ops in coarse.items for op in ops) == sorted(made.ops)
    for device, kind in zip(made.devices, coarse.kind_of, strict=True):
        durations = made.durations(device)
        assert sum(coarse.time[kind]) == pytest.approx(sum(durations.values()))
    for ops, pin in zip(coarse.items, coarse.pinned, strict=True):
        assert {made.pins.get(op) for op in ops} == {made.devices[pin] if pin >= 0 else None}
    placed = [pin if pin >= 0 else data.draw(st.integers(0, len(made.devices) - 1)) for pin in coarse.pinned]
    placement = coarse.place(placed)
    assert list(placement) == list(made.ops)
    assert dict(zip(made.devices, coarse.held(placed), strict=True)) == made.resident(placement)


@given(problems(), st.integers(1, 12), st.data())
def test_units_keep_groups_together(made: Problem, most: int, data: st.DataObject) -> None:
    coarse = Coarse.of(made, most)
    where = [data.draw(st.integers(0, len(made.devices) - 1)) for _ in coarse.units]
    placed = [0] * len(coarse.items)
    for unit, device in zip(coarse.units, where, strict=True):
        for item in unit:
            placed[item] = device
    placement = coarse.place(placed)
    assert all(len({placement[op] for op in group}) == 1 for group in made.groups)
    assert coarse.placed(placement) == placed, "there and back"


def test_what_goes_from_item_to_item() -> None:
    made = problem(perceptron(), machine([10**6] * 2), training=True)
    coarse = Coarse.of(made, 100)
    number = {ops[0]: i for i, ops in enumerate(coarse.items)}
    values = set(coarse.values)
    assert Handed(number["layer0"], (number["layer1"], number["grad1"]), 32, MADE) in values
    assert Handed(number["layer1"], (number["back1"],), 16, START) in values, "its parameter is used again"
    assert Handed(number["grad2"], (number["layer2"],), 8, END) in values, "the gradient goes to its owner"
    assert [coarse.part[number[op]] for op in ("layer2", "back2", "grad0")] == [0, 1, 1]


def test_a_way_knows_its_links() -> None:
    coarse = Coarse.of(problem(chain(2), machine([10**6] * 3, bandwidth=4.0, latency=0.5)), 10)
    way = coarse.way(0, 2)
    assert (way.latency, way.per_byte) == (0.5, 0.25)
    assert len({link for link, _ in way.links}) == 2
    assert {link for link, _ in way.links} & {link for link, _ in coarse.way(0, 1).links}, "its own port, both times"
