"""Lowered pipelines: whatever the graph, the placement and the schedule, the program is sound and complete."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import devices, graphs, pipeline
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Accumulate, Run, Send, Update
from torchplace.compiler.passes.phases import assign_phases
from torchplace.compiler.passes.snapshots import snapshot_state
from torchplace.compiler.pipeline import lower_pipeline, pipeline_tasks
from torchplace.compiler.program import Program
from torchplace.compiler.schedule import SCHEDULES
from torchplace.compiler.schedule.orders import Orders, closed_form
from torchplace.compiler.tasks import make_tasks
from torchplace.compiler.verify import verify
from torchplace.errors import ProgramError
from torchplace.placement.groups import colocation_groups, state_groups
from torchplace.placement.owners import owners

Case = tuple[Graph, tuple[str, ...], dict[str, str], dict[str, str], str, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A graph with phases, devices, a placement that keeps written state together, owners, a schedule, a number."""
    graph = draw(graphs(max_ops=20))
    assign_phases(graph)
    snapshot_state(graph)
    graph.check()
    names = devices(draw(st.integers(1, 4)))
    rng = random.Random(draw(st.integers(0, 10**6)))
    placement = {}
    for group in colocation_groups(graph, state_groups(graph)):
        placement.update(dict.fromkeys(group, rng.choice(names)))
    held = owners(graph, placement, names[0])
    held.update((v.path, held[v.name]) for v in graph.inputs if v.path)
    return graph, names, placement, held, draw(st.sampled_from(SCHEDULES)), draw(st.integers(1, 5))


def lowered(case: Case) -> Program:
    graph, names, placement, held, schedule, microbatches = case
    orders = closed_form(schedule, pipeline_tasks(graph, placement, held), microbatches)
    return lower_pipeline(graph, placement, names, held, orders, microbatches)


@given(cases())
def test_every_pipeline_verifies_and_reads_back(case: Case) -> None:
    program = lowered(case)
    verify(program)
    assert Program.parse(str(program)) == program


@given(cases())
def test_every_op_runs_once_for_every_microbatch(case: Case) -> None:
    graph, *_, microbatches = case
    program = lowered(case)
    done: Counter[tuple[str, int]] = Counter()
    for device, i in program:
        if isinstance(i, Run):
            assert program.segments[i.segment].device == device
            done.update((op, i.microbatch) for op in program.segments[i.segment].ops)
        elif isinstance(i, Update):
            done[next(op.name for op in graph.ops if i.state in op.mutates), i.microbatch] += 1
    assert done == Counter((op.name, k) for op in graph.ops for k in range(microbatches))


@given(cases())
def test_microbatches_go_in_order_wherever_it_can_be_noticed(case: Case) -> None:
    program = lowered(case)
    for instructions in program.instructions.values():
        rows: dict[Any, list[int]] = {}
        for i in instructions:
            if isinstance(i, Accumulate):
                rows.setdefault(("sum", i.into), []).append(i.microbatch)
            elif isinstance(i, Update):
                rows.setdefault(("state", i.state), []).append(i.microbatch)
        assert all(row == list(range(program.microbatches)) for row in rows.values())


@given(cases())
def test_a_value_goes_to_a_device_once_for_each_microbatch(case: Case) -> None:
    sent = Counter((i.value, i.to, i.microbatch) for _, i in lowered(case) if isinstance(i, Send))
    assert all(count == 1 for count in sent.values())


@given(cases())
def test_tasks_need_only_tasks_before_them(case: Case) -> None:
    graph, _, placement, *_ = case
    tasks = make_tasks(graph, placement)
    assert [task.number for task in tasks] == list(range(len(tasks)))
    assert all(n < task.number for task in tasks for n in task.after)
    assert sorted(op.name for task in tasks for op in task.ops) == sorted(op.name for op in graph.ops)
    for task in tasks:
        assert {placement[op.name] for op in task.ops} == {task.device}
        assert {op.phase for op in task.ops} == {task.phase}


def test_a_chain_has_one_task_of_each_phase_on_every_stage() -> None:
    graph, placement = pipeline(3)
    found = Counter((t.device, t.phase) for t in make_tasks(graph, placement))
    assert found == Counter((f"gpu:{i}", p) for i in range(3) for p in ("forward", "backward", "weight-grad"))


def test_backward_and_weight_gradients_at_once_are_one_segment() -> None:
    graph, placement = pipeline(2)
    held = {"w0": "gpu:0", "w1": "gpu:1"}
    tasks = pipeline_tasks(graph, placement, held)
    program = lower_pipeline(graph, placement, devices(2), held, closed_form("1f1b", tasks, 3), 3)
    assert [s.ops for s in program.segments.values() if s.device == "gpu:1"] == [("f1",), ("w_1", "b1")]
    apart = lower_pipeline(graph, placement, devices(2), held, closed_form("zero-bubble", tasks, 3), 3)
    assert [s.ops for s in apart.segments.values() if s.device == "gpu:1"] == [("f1",), ("b1",), ("w_1",)]


def test_orders_that_leave_something_out_are_refused() -> None:
    graph, placement = pipeline(2)
    orders = closed_form("gpipe", make_tasks(graph, placement), 2)
    orders["gpu:0"].pop()
    with pytest.raises(ProgramError, match="do 11 tasks, 0 of them on another device than theirs; expected 12"):
        lower_pipeline(graph, placement, devices(2), {"w0": "gpu:0", "w1": "gpu:1"}, orders, 2)


def test_orders_that_wait_for_each_other_are_refused() -> None:
    graph, placement = pipeline(2)
    first_to_last = closed_form("gpipe", make_tasks(graph, placement), 1)
    orders: Orders = {device: [*reversed(order)] for device, order in first_to_last.items()}
    with pytest.raises(ProgramError, match="wait for each other"):
        lower_pipeline(graph, placement, devices(2), {"w0": "gpu:0", "w1": "gpu:1"}, orders, 1)
