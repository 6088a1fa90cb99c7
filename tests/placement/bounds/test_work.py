from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, placements
from tests.placement.bounds.problems import evaluators
from tests.placement.graphs import Table, machine, perceptron
from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Send
from torchplace.placement.bounds.machine import machines
from torchplace.placement.bounds.work import Flow, Work
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.owners import owner_ops


def work_of(graph: Graph, **known: dict[str, str]) -> Work:
    return Work.of(
        Captured(graph, (graph,), {}), "d0", state=known.get("state", {}), optimizer={}, pins=known.get("pins", {})
    )


def test_what_writes_a_buffer_is_where_its_first_user_is() -> None:
    b = Builder()
    running = b.buffer("running", 4)
    first = b.add_op(running, b.input("x", 4))
    b.update(running, b.add_op(first, name="other"), name="write")
    [part] = work_of(b.returns(first)).parts
    read, other, write = part.items
    assert read == write != other


def test_state_that_lives_somewhere_fixes_what_writes_it() -> None:
    b = Builder()
    running = b.buffer("running", 4)
    first = b.add_op(running, b.input("x", 4), name="read")
    b.update(running, first, name="write")
    work = work_of(b.returns(first), state={"running": "d1"}, pins={"read": "d0"})
    [part] = work.parts
    assert {name: work.fixed[i] for name, i in zip(("read", "write"), part.items.tolist(), strict=True)} == {
        "read": "d0",
        "write": "d1",
    }
    assert len(work.flows) == 2, "the buffer goes to who reads it, and what is read to who writes"


def test_a_gradient_goes_back_to_where_its_parameter_is_used_first() -> None:
    graph = perceptron((8, 4, 2))
    work = work_of(graph)
    index = {op.name: i for i, op in zip(work.parts[0].items.tolist(), graph.ops, strict=True)}
    assert Flow(index["grad1"], (index["layer1"],), 16) in work.flows
    assert Flow(index["layer1"], (index["back1"],), 16) in work.flows, "the parameter goes to the backward"


def where_items_are(evaluator: Evaluator, placement: Mapping[str, str]) -> tuple[Work, dict[int, str]]:
    """The items of a placed graph, and their devices: what writes state is where that is, wherever it was put."""
    captured, default = evaluator.captured, evaluator.topology.device_names[0]
    deciding = {op.name for op in captured.graph.ops if not op.mutates} | set(owner_ops(captured.graph).values())
    pins = {name: device for name, device in placement.items() if name in deciding}
    work = Work.of(captured, default, state=evaluator.fixed, optimizer=evaluator.optimizer, pins=pins)
    return work, dict(work.fixed)


@given(evaluators(), st.data())
def test_items_send_what_a_program_sends(evaluator: Evaluator, data: st.DataObject) -> None:
    """Whatever the placement: what goes from which device to which, value by value, is what the flows say."""
    placement = data.draw(placements(evaluator.captured.graph, evaluator.topology.device_names))
    work, device = where_items_are(evaluator, placement)
    programs = evaluator.programs(placement)
    sent = Counter(
        (here, i.to, program.values[i.value].nbytes)
        for program in programs
        for here, i in program
        if isinstance(i, Send)
    )
    said = Counter(
        (device[flow.source], there, flow.nbytes)
        for flow in work.flows
        for there in {device[target] for target in flow.targets} - {device[flow.source]}
    )
    assert said == sent
    for program, part in zip(programs, work.parts, strict=True):
        where = {op: s.device for s in program.segments.values() for op in s.ops}
        ops = zip(part.graph.ops, part.items.tolist(), strict=True)
        assert all(device[item] == where.get(op.name, device[item]) for op, item in ops)


@given(evaluators(), st.data())
def test_no_device_gets_by_with_less_memory(evaluator: Evaluator, data: st.DataObject) -> None:
    placement = data.draw(placements(evaluator.captured.graph, evaluator.topology.device_names))
    work, device = where_items_are(evaluator, placement)
    peaks = evaluator.simulate(evaluator.programs(placement)).peak_memory
    for row in work.held:
        for name, peak in peaks.items():
            assert sum(row[i] for i, where in device.items() if where == name) <= peak


def test_an_op_takes_what_it_does_on_the_best_of_the_devices_that_it_may_be_on() -> None:
    graph = perceptron((8, 4, 2))
    [part] = work_of(graph).parts
    [sorts] = machines(machine([1, 1, 1], [3.0, 0.5, 3.0]))
    assert part.times(sorts, Table({"layer0": 2.0})).T[0].tolist() == [6.0, 1.0]
