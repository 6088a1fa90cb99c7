"""Units, what they consist of, and in which order they happen: on a pipeline of two stages, by hand."""

from __future__ import annotations

import pytest

from tests.compiler.graphs import DEVICES, pipeline
from torchplace.compiler.bodies import Bodies
from torchplace.compiler.events import Events
from torchplace.compiler.order import unit_duration
from torchplace.compiler.residence import Residence
from torchplace.compiler.tasks import make_tasks
from torchplace.compiler.units import Unit, join_units
from torchplace.errors import ProgramError

GRAPH, PLACEMENT = pipeline(2)
FIRST, LAST = DEVICES[:2]
OWNERS = {"w0": FIRST, "w1": LAST}
TASKS = make_tasks(GRAPH, PLACEMENT)
RESIDENCE = Residence(GRAPH, PLACEMENT, OWNERS, DEVICES[:2], TASKS)
NUMBER = {(task.device, task.phase): task.number for task in TASKS}
SUMS = {"w_0": ["w_0.sum"], "w_1": ["w_1.sum"]}


def order(device: str, *phases: str, microbatch: int = 0) -> list[tuple[int, int]]:
    return [(NUMBER[device, phase], microbatch) for phase in phases]  # type: ignore[index]


def units(device: str, *phases: str, whole: bool = True) -> list[Unit]:
    return list(join_units(device, order(device, *phases), TASKS, RESIDENCE, whole))


def bodies(*made: Unit) -> Bodies:
    found = Bodies(GRAPH, TASKS, RESIDENCE, SUMS)
    found.make(made, unit_duration, {"f1"})
    return found


def test_a_backward_and_the_weight_gradients_behind_it_are_one() -> None:
    joined = units(LAST, "forward", "backward", "weight-grad")
    assert [len(unit.tasks) for unit in joined] == [1, 2]
    assert [len(unit.tasks) for unit in units(LAST, "backward", "weight-grad", whole=False)] == [1, 1]
    assert [len(unit.tasks) for unit in units(FIRST, "weight-grad", "backward")] == [1, 1], "not the other way round"


def test_not_those_of_two_microbatches() -> None:
    mixed = order(LAST, "backward") + order(LAST, "weight-grad", microbatch=1)
    assert [unit.microbatch for unit in join_units(LAST, mixed, TASKS, RESIDENCE, whole=True)] == [0, 1]


def test_where_values_are_and_where_they_go() -> None:
    values = GRAPH.values
    assert RESIDENCE.entry == {"x": FIRST, "w0": FIRST, "w1": LAST, "t": LAST}
    assert RESIDENCE.others(values["f0"]) == [LAST]
    assert RESIDENCE.others(values["f1"]) == []
    assert RESIDENCE.leaves_with(values["f0"]) == NUMBER[FIRST, "forward"]


def test_a_body_says_what_runs_what_is_summed_and_what_leaves() -> None:
    forward, behind = units(FIRST, "forward"), units(LAST, "backward", "weight-grad")
    found = bodies(*forward, *behind)
    body = found[forward[0].tasks]
    assert [piece.run.outputs for piece in body.pieces] == [("f0",)]
    assert [(value.name, there) for value, there in body.sends] == [("f0", LAST)]
    assert (body.after, body.hands_on, body.updates, body.seconds) == ((), (), (), 1.0)
    last = found[behind[0].tasks]
    assert [pair for piece in last.pieces for pair in piece.sums] == [("w_1", "w_1.sum")]
    assert [(value.name, there) for value, there in last.sends] == [("b1", FIRST)]
    assert {segment.ops for segment in found.segments.values()} == {("f0",), ("w_1", "b1")}


def test_events_are_in_order_of_time_and_transfers_behind_what_makes_them() -> None:
    of = {FIRST: units(FIRST, "forward", "backward", "weight-grad"), LAST: units(LAST, "forward", "backward")}
    made = bodies(*of[FIRST], *of[LAST])
    happened = Events(of, made, RESIDENCE, TASKS, lambda value, here, there: 0.5).ordered()
    said = [what.device if isinstance(what, Unit) else what[0].name for what in happened]
    assert said == [FIRST, "f0", LAST, LAST, "b1", FIRST]


def test_events_that_wait_for_each_other_are_named() -> None:
    of = {FIRST: units(FIRST, "backward"), LAST: units(LAST, "forward")}
    with pytest.raises(ProgramError, match=r"wait for each other: gpu:0: task \d: backward on gpu:0"):
        Events(of, bodies(*of[FIRST], *of[LAST]), RESIDENCE, TASKS, lambda *_: 0.0).ordered()
