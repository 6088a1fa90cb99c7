from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given

from tests.compiler.graphs import Builder, chain, placed
from torchplace.compiler.graph import Graph, Op, Output, Value
from torchplace.compiler.instructions import Free, Recv, Run, Send, Update
from torchplace.compiler.lower import entry_devices, lower
from torchplace.compiler.program import Entry, Exit, Program
from torchplace.compiler.verify import verify
from torchplace.errors import ProgramError

AB = ("gpu:0", "gpu:1")


def duration(op: Op, device: str) -> float:
    return float(len(op.name + device) % 3)


def delay(value: Value, source: str, target: str) -> float:
    return value.nbytes / 16


def lowered(case: tuple) -> tuple[Graph, Program]:
    graph, devices, placement, owners = case
    return graph, lower(graph, placement, devices, owners, duration, delay)


@given(placed())
def test_every_lowered_program_verifies(case: tuple) -> None:
    graph, devices, placement, owners = case
    verify(lower(graph, placement, devices, owners, duration, delay))
    verify(lower(graph, placement, devices))


def updates(graph: Graph) -> list[Op]:
    return [op for op in graph.ops if op.target == "aten.copy_.default" and op.mutates]


@given(placed())
def test_every_op_runs_once_and_where_it_was_put(case: tuple) -> None:
    graph, program = lowered(case)
    _, _, placement, _ = case
    ran = [(op, s.device) for s in program.segments.values() for op in s.ops]
    written = {op.name for op in updates(graph)}
    assert sorted(ran) == sorted((n, d) for n, d in placement.items() if n not in written)
    runs = Counter(i.segment for _, i in program if isinstance(i, Run))
    assert runs == Counter(dict.fromkeys(program.segments, 1))
    writes = [(d, i.state, i.value) for d, i in program if isinstance(i, Update)]
    assert sorted(writes) == sorted(
        (program.inputs[op.mutates[0]].device, op.mutates[0], op.args[1].name) for op in updates(graph)
    ), "state is written where it lives, wherever the write was put"


@given(placed())
def test_a_value_is_sent_at_most_once_to_a_device_and_only_where_it_is_needed(case: tuple) -> None:
    graph, program = lowered(case)
    sent = Counter((i.value, i.to) for _, i in program if isinstance(i, Send))
    assert all(count == 1 for count in sent.values())
    needed = {(v, d) for d, i in program for v in _needs(i)}
    needed |= {(e.value, e.device) for e in program.outputs}
    assert set(sent) <= needed
    for device, send in program:
        if isinstance(send, Send):
            assert device == _maker(graph, program, send.value), "sent by who made it or had it at the start"


def _needs(instruction: object) -> tuple[str, ...]:
    if isinstance(instruction, Run):
        return instruction.inputs
    return (instruction.state, instruction.value) if isinstance(instruction, Update) else ()


def _maker(graph: Graph, program: Program, name: str) -> str:
    if name in program.inputs:
        return program.inputs[name].device
    maker = graph.values[name].producer
    assert maker is not None
    return next(s.device for s in program.segments.values() if maker.name in s.ops)


@given(placed())
def test_the_program_computes_what_the_graph_says(case: tuple) -> None:
    """Run both with numbers for tensors: each op hashes what it takes; devices share nothing but messages."""
    graph, program = lowered(case)
    assert _run_program(graph, program) == _run_graph(graph)


def _run_op(op: Op, held: dict[str, int]) -> None:
    for i, value in enumerate(op.outputs):
        held[value.name] = hash((op.target, i, tuple(held[v.name] for v in op.inputs)))


def _run_graph(graph: Graph) -> tuple[list[int | None], dict[str, int]]:
    held = {v.name: i for i, v in enumerate(graph.inputs)}
    state = {v.name: held[v.name] for v in graph.inputs}
    for op in graph.ops:
        if op.mutates:
            state[op.mutates[0]] = held[op.args[1].name]
        else:
            _run_op(op, held)
    return [held[o.value.name] if isinstance(o.value, Value) else None for o in graph.outputs], state


def _run_program(graph: Graph, program: Program) -> tuple[list[int | None], dict[str, int]]:
    """Interpret the lists in a random order; a receive waits for its send, nothing else waits."""
    ops = {op.name: op for op in graph.ops}
    start = {v.name: i for i, v in enumerate(graph.inputs)}
    held = {d: {n: start[n] for n, e in program.inputs.items() if e.device == d} for d in program.devices}
    state, wire = dict(start), {}
    lists = {d: list(program.instructions[d]) for d in program.devices}
    generator = random.Random(0)
    while any(lists.values()):
        device = generator.choice([d for d in lists if lists[d]])
        match lists[device][0]:
            case Run() as run:
                local = {name: held[device][name] for name in run.inputs}
                for name in program.segments[run.segment].ops:
                    _run_op(ops[name], local)
                held[device].update((name, local[name]) for name in run.outputs)
            case Send() as send:
                wire[send.value, device, send.to] = held[device][send.value]
            case Recv() as recv:
                if (recv.value, recv.source, device) not in wire:
                    continue
                held[device][recv.value] = wire.pop((recv.value, recv.source, device))
            case Update() as update:
                state[update.state] = held[device][update.value]
            case Free() as free:
                del held[device][free.value]
        del lists[device][0]
    return [held[e.device][e.value] if e.value else None for e in program.outputs], state


@given(placed())
def test_one_device_is_one_segment(case: tuple) -> None:
    graph, _, placement, _ = case
    program = lower(graph, dict.fromkeys(placement, "gpu:0"), ("gpu:0",))
    assert len(program.segments) == any(not op.mutates for op in graph.ops)
    kinds = [type(i) for _, i in program if not isinstance(i, Free)]
    assert kinds == [Run] * len(program.segments) + [Update] * len(updates(graph))


def test_a_chain_cut_in_two_has_one_run_on_each_device() -> None:
    graph = chain(4)
    placement = {"v0": "gpu:0", "v1": "gpu:0", "v2": "gpu:1", "v3": "gpu:1"}
    program = lower(graph, placement, AB, delay=lambda v, s, t: 3.0)
    assert str(program) == "\n".join(
        [
            'program "toy" on gpu:0, gpu:1',
            *(f"value %{n}: 16 bytes" for n in ("x", "w0", "w1", "w2", "w3", "v1", "v3")),
            "input %x on gpu:0 lent",
            *(f"input %w{i} on gpu:{i // 2} resident" for i in range(4)),
            "segment s0 on gpu:0 peak 32: v0 v1",
            "segment s1 on gpu:1 peak 16: v2 v3",  # %v1 goes meanwhile
            "output %v3 on gpu:1",
            "gpu:0:",
            "  run s0 (%x, %w0, %w1) -> %v1",
            "  free %x",
            "  send %v1 to gpu:1",
            "  free %v1",
            "gpu:1:",
            "  recv %v1 from gpu:0",
            "  run s1 (%v1, %w2, %w3) -> %v3",
            "  free %v1",
        ]
    )


def test_branches_and_a_join() -> None:
    b = Builder()
    x = b.input("x", 4)
    left, right = b.add_op(x, name="left"), b.add_op(x, name="right")
    b.returns(b.add_op(left, right, name="join"))
    program = lower(b.graph, {"left": "gpu:0", "right": "gpu:1", "join": "gpu:0"}, AB)
    sent = [(d, i.value, i.to) for d, i in program if isinstance(i, Send)]
    assert sorted(sent) == [("gpu:0", "x", "gpu:1"), ("gpu:1", "right", "gpu:0")]
    runs = [(d, program.segments[i.segment].ops) for d, i in program if isinstance(i, Run)]
    assert runs == [("gpu:0", ("left",)), ("gpu:0", ("join",)), ("gpu:1", ("right",))]


def test_what_waits_for_a_value_does_not_hold_up_what_does_not() -> None:
    b = Builder()
    x = b.input("x", 4)
    away = b.add_op(x, name="away")
    near = b.add_op(x, name="near")
    b.returns(b.add_op(near, name="more"), b.add_op(away, near, name="join"))
    placement = {"away": "gpu:1", "near": "gpu:0", "more": "gpu:0", "join": "gpu:0"}
    program = lower(b.graph, placement, AB, delay=lambda v, s, t: 1.0)
    assert [s.ops for s in program.segments.values() if s.device == "gpu:0"] == [("near", "more"), ("join",)]


def test_a_gradient_ends_with_its_parameter() -> None:
    b = Builder()
    w, t = b.parameter("net.w", 4), b.add("t", "tangent", 4)
    b.gradient(w, b.add_op(t, name="gw"))
    b.graph.outputs.append(Output(None, "gradient"))
    program = lower(b.graph, {"gw": "gpu:0"}, AB, {"net.w": "gpu:1"})
    assert program.outputs == (Exit("gw", "gpu:1"), Exit(None))
    assert Send("gw", "gpu:1") in program.instructions["gpu:0"]
    elsewhere = lower(b.graph, {"gw": "gpu:0"}, AB)
    assert elsewhere.outputs[0] == Exit("gw", "gpu:0")


def test_outputs_end_where_they_are_made() -> None:
    graph = chain(2)
    graph.outputs = [Output(v) for v in (graph.ops[0].outputs[0], graph.ops[1].outputs[0], graph.inputs[0])]
    program = lower(graph, {"v0": "gpu:1", "v1": "gpu:0"}, AB, {"x": "gpu:0"})
    assert [(e.value, e.device) for e in program.outputs] == [("v0", "gpu:1"), ("v1", "gpu:0"), ("x", "gpu:0")]


def test_where_inputs_start() -> None:
    graph = chain(2)
    graph.inputs.append(Value("unused", graph.inputs[0].type, kind="buffer"))
    placement = {"v0": "gpu:1", "v1": "gpu:0"}
    assert entry_devices(graph, placement, {"w1": "gpu:1"}, "gpu:0") == {
        "x": "gpu:1", "w0": "gpu:1", "w1": "gpu:1", "unused": "gpu:0",
    }  # fmt: skip
    program = lower(graph, placement, AB, {"w1": "gpu:1"})
    assert program.inputs["x"] == Entry("gpu:1", lent=True)
    assert program.inputs["w1"] == Entry("gpu:1", resident=True)
    assert Recv("w1", "gpu:1") in program.instructions["gpu:0"]


def test_a_copy_of_state_is_freed_and_the_state_is_not() -> None:
    graph = chain(1)
    program = lower(graph, {"v0": "gpu:0"}, AB, {"w0": "gpu:1"})
    assert Free("w0") in program.instructions["gpu:0"]
    assert Free("w0") not in program.instructions["gpu:1"]


def test_an_input_that_nobody_uses_is_freed_first() -> None:
    graph = chain(1)
    graph.inputs.append(Value("unused", graph.inputs[0].type, kind="input"))
    assert lower(graph, {"v0": "gpu:0"}, AB).instructions["gpu:0"][0] == Free("unused")


def test_a_write_comes_after_every_read_and_the_buffers_copies_leave_before() -> None:
    b = Builder()
    x, mean = b.input("x", 4), b.buffer("mean", 4)
    new = b.add_op(mean, x, name="new")
    b.returns(b.add_op(b.view(mean, "seen"), new, name="read"))
    b.update(mean, new, name="write")
    placement = {"new": "gpu:0", "seen": "gpu:1", "read": "gpu:1", "write": "gpu:1"}
    program = lower(b.graph, placement, AB)
    assert [i for i in program.instructions["gpu:0"] if isinstance(i, (Send, Update))] == [
        Send("mean", "gpu:1"),
        Send("new", "gpu:1"),
        Update("mean", "new"),
    ]


def test_an_in_place_op_that_is_no_copy_runs_with_its_state() -> None:
    b = Builder()
    x, cache = b.input("x", 4), b.buffer("cache", 4)
    b.many("aten.index_put_.default", cache, [0], x, shapes=[], name="put", mutates=("cache",))
    program = lower(b.graph, {"put": "gpu:0"}, AB, {"cache": "gpu:1", "x": "gpu:0"})
    verify(program)
    assert program.segments["s0"].device == "gpu:1"
    assert not [i for _, i in program if isinstance(i, Update)]


def test_views_are_slots_in_what_they_view_where_it_is_here() -> None:
    b = Builder()
    x = b.input("x", 4)
    y = b.add_op(x, name="y")
    one = b.view(y, "one")
    two = b.view(one, "two")
    b.returns(one, two)
    same = lower(b.graph, dict.fromkeys(("y", "one", "two"), "gpu:0"), AB)
    assert {n: s.base for n, s in same.values.items() if s.base} == {"one": "y", "two": "y"}
    apart = lower(b.graph, {"y": "gpu:0", "one": "gpu:0", "two": "gpu:1"}, AB)
    assert apart.values["two"].base == "one", "what is sent arrives as a copy with memory of its own"
    verify(apart)


@pytest.mark.parametrize("placement", [{"v0": "gpu:0"}, {"v0": "gpu:0", "v1": "gpu:7"}])
def test_an_unknown_device_is_an_error(placement: dict[str, str]) -> None:
    where = placement.get("v1")
    with pytest.raises(ProgramError) as caught:
        lower(chain(2), placement, AB)
    assert str(caught.value) == f"op 'v1' is placed on {where!r}; expected one of ['gpu:0', 'gpu:1']"


def test_an_unknown_owner_is_an_error() -> None:
    with pytest.raises(ProgramError) as caught:
        lower(chain(1), {"v0": "gpu:0"}, AB, {"w0": "gpu:7"})
    assert str(caught.value) == "input 'w0' is owned by 'gpu:7'; expected one of ['gpu:0', 'gpu:1']"
