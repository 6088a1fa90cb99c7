from __future__ import annotations

import dataclasses

from hypothesis import given

from tests.compiler.graphs import Builder, chain, graphs, placed
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Reduce, Run, Send, Update
from torchplace.compiler.lifetimes import (
    Instance,
    Ledger,
    insert_frees,
    kept,
    makes,
    peak_memory,
    segment_peak,
    uses,
)
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Entry, Exit, Program, Segment, Slot


def test_what_instructions_use_and_make() -> None:
    table: list[tuple[Instruction, list[Instance], list[Instance]]] = [
        (Run("s", ("a", "b"), ("c",), 2), [("a", 2), ("b", 2)], [("c", 2)]),
        (Send("a", "d", 1), [("a", 1)], []),
        (Recv("a", "d", 1), [], [("a", 1)]),
        (Free("a", 1), [("a", 1)], []),
        (Accumulate("g", "sum", 3), [("g", 3)], [("sum", 0)]),
        (Update("state", "v", 1), [("state", 1), ("v", 1)], []),
        (Reduce("g", "sum", ("d",)), [("g", 0)], []),
    ]
    for instruction, used, made in table:
        assert list(uses(instruction)) == used
        assert list(makes(instruction)) == made


def brute_force_peak(program: Program, device: str) -> int:
    """Live bytes before, during and after each instruction, each time computed from nothing."""
    steps = program.instructions.get(device, [])
    entered = {(n, 0): -1 for n, e in program.inputs.items() if e.device == device}
    peak = 0
    for i in range(-1, len(steps)):
        now = steps[i] if i >= 0 else None
        after = _bytes(program, _alive(entered, steps[: i + 1]))
        before = _bytes(program, _alive(entered, steps[:i])) if i >= 0 else 0
        peak = max(peak, after, before + (program.segments[now.segment].peak if isinstance(now, Run) else 0))
    return peak


def _alive(entered: dict[Instance, int], steps: list[Instruction]) -> dict[Instance, bool]:
    """Each instance on a device, and whether a segment made it there (then it may be a view)."""
    alive = dict.fromkeys(entered, False)
    for step in steps:
        if isinstance(step, Run):
            for name in step.outputs:
                alive.setdefault((name, step.microbatch), True)
        elif isinstance(step, Recv):
            alive.setdefault((step.value, step.microbatch), False)
        elif isinstance(step, Accumulate):
            alive.setdefault((step.into, 0), False)
        elif isinstance(step, Free):
            alive.pop((step.value, step.microbatch), None)
    return alive


def _bytes(program: Program, alive: dict[Instance, bool]) -> int:
    storages = set()
    for (name, k), made_here in alive.items():
        base = program.values[name].base if made_here else None
        batch = 0 if base in program.inputs and program.inputs[base].resident else k
        storages.add((name, k) if base is None else (base, batch))
    return sum(program.values[name].nbytes for name, _ in storages)


@given(placed())
def test_peak_memory_is_that_of_brute_force(case: tuple) -> None:
    graph, devices, placement, owners = case
    program = lower(graph, placement, devices, owners)
    assert peak_memory(program) == {d: brute_force_peak(program, d) for d in devices}


@given(placed())
def test_at_the_end_only_what_is_kept_is_live(case: tuple) -> None:
    graph, devices, placement, owners = case
    program = lower(graph, placement, devices, owners)
    for device in devices:
        ledger = Ledger(program, device)
        for instruction in program.instructions[device]:
            before = ledger.live
            high = ledger.step(instruction)
            assert high >= max(before, ledger.live)
            assert ledger.peak >= high
        roots = {_root(program, name, device) for name, _ in kept(program, device)}
        assert ledger.live == sum(program.values[name].nbytes for name in roots)


def _root(program: Program, name: str, device: str) -> str:
    runs_here = any(name in i.outputs for d, i in program if isinstance(i, Run) and d == device)
    return program.values[name].base or name if runs_here else name


@given(graphs())
def test_segment_peak_is_that_of_brute_force(graph: Graph) -> None:
    ops, roots = [op for op in graph.ops if not op.mutates], graph.storage()
    given_names = {v.name for v in graph.output_values if v.producer is not None}
    made = {v.name: i for i, op in enumerate(ops) for v in op.outputs if roots[v.name] == v.name}
    peak = 0
    for i in range(len(ops)):
        needed = {roots[v.name] for op in ops[i:] for v in (*op.inputs, *op.outputs)}
        needed |= {roots[name] for name in given_names}
        alive = [name for name, at in made.items() if at <= i and name in needed]
        peak = max(peak, sum(graph.values[name].nbytes for name in alive))
    assert segment_peak(ops, given_names, roots) == peak


def test_a_segment_by_hand() -> None:
    b = Builder()
    x = b.input("x", 100)
    one = b.add_op(x, shape=(10,), name="one")
    two = b.add_op(one, shape=(20,), name="two")
    b.add_op(b.view(two), shape=(1,), name="end")
    graph = b.graph
    assert segment_peak(graph.ops, {"end"}, graph.storage()) == 4 * 30
    assert segment_peak(graph.ops, {"one", "end"}, graph.storage()) == 4 * 31
    assert segment_peak(graph.ops[1:], {"end"}, graph.storage()) == 4 * 21, "what was there before does not count"
    assert segment_peak([], set(), {}) == 0


@given(placed())
def test_values_are_freed_right_behind_their_last_use(case: tuple) -> None:
    graph, devices, placement, owners = case
    program = lower(graph, placement, devices, owners)
    for device in devices:
        steps, keep = program.instructions[device], kept(program, device)
        for i, step in enumerate(steps):
            if isinstance(step, Free):
                assert (step.value, 0) not in keep
                before = [s for s in steps[:i] if not isinstance(s, Free)]
                used = before and (step.value, 0) in {*uses(before[-1]), *makes(before[-1])}
                assert used or (not before and step.value in program.inputs)


BATCHES = """
program "toy" on gpu:0
value %w: 100 bytes
value %wt: 100 bytes of %w
value %x: 10 bytes
value %g: 100 bytes
value %sum: 100 bytes
input %w on gpu:0 resident
segment s0 on gpu:0 peak 5: a
output %sum on gpu:0
gpu:0:
  recv %x from gpu:1
  run s0 (%w, %x) -> %g, %wt
  accumulate %g into %sum
  recv %x from gpu:1 @1
  run s0 (%w, %x) -> %g, %wt @1
  accumulate %g into %sum @1
"""


def test_frees_of_several_microbatches() -> None:
    program = Program.parse(BATCHES)
    insert_frees(program)
    frees = [i for _, i in program if isinstance(i, Free)]
    assert frees == [Free("x"), Free("wt"), Free("g"), Free("x", 1), Free("wt", 1), Free("g", 1)]
    assert [str(i) for i in program.instructions["gpu:0"]][:5] == [
        "recv %x from gpu:1", "run s0 (%w, %x) -> %g, %wt", "free %x", "free %wt", "accumulate %g into %sum",
    ]  # fmt: skip
    assert peak_memory(program)["gpu:0"] == 100 + 100 + 10 + 100, "state, sum, and one micro-batch's x and gradient"
    assert brute_force_peak(program, "gpu:0") == 310


def test_a_view_of_one_microbatch_stands_in_its_own_memory() -> None:
    program = Program("toy", ("gpu:0",), {"y": Slot(100), "view": Slot(100, "y")})
    program.segments = {"s0": Segment("s0", "gpu:0", ("a",))}
    program.instructions = {"gpu:0": [Run("s0", (), ("y",)), Run("s0", (), ("view",), 1)]}
    assert peak_memory(program)["gpu:0"] == brute_force_peak(program, "gpu:0") == 200


def test_state_is_not_freed_by_a_later_microbatch() -> None:
    program = Program("toy", ("gpu:0",), {"w": Slot(8), "y": Slot(8)}, {"w": Entry("gpu:0", resident=True)})
    program.segments = {"s0": Segment("s0", "gpu:0", ("a",))}
    program.instructions = {"gpu:0": [Run("s0", ("w",), ("y",), 3), Update("w", "y", 3)]}
    insert_frees(program)
    assert [i for _, i in program if isinstance(i, Free)] == [Free("y", 3)]


def test_what_a_device_keeps() -> None:
    program = lower(chain(2), {"v0": "gpu:0", "v1": "gpu:1"}, ("gpu:0", "gpu:1"))
    assert kept(program, "gpu:0") == {("w0", 0)}
    assert kept(program, "gpu:1") == {("w1", 0), ("v1", 0)}
    program.outputs = (*program.outputs, Exit(None))
    assert kept(program, "gpu:1") == {("w1", 0), ("v1", 0)}


def test_a_view_keeps_what_it_views_alive() -> None:
    b = Builder()
    y = b.add_op(b.input("x", 1), shape=(50,), name="y")
    b.returns(b.view(y, "view"))
    program = lower(b.graph, {"y": "gpu:0", "view": "gpu:0"}, ("gpu:0",))
    ledger = Ledger(program, "gpu:0")
    for instruction in program.instructions["gpu:0"]:
        ledger.step(instruction)
    assert ledger.live == 200
    assert dataclasses.replace(program.values["view"]) == Slot(200, "y")
