from __future__ import annotations

import dataclasses

from hypothesis import given

from tests.compiler.graphs import Builder, chain, placed
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Reduce, Run, Send, Update
from torchplace.compiler.lifetimes import (
    Boundary,
    Instance,
    Ledger,
    freed_behind,
    insert_frees,
    makes,
    peak_memory,
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


@given(placed())
def test_at_the_end_only_what_is_kept_is_live(case: tuple) -> None:
    graph, devices, placement, owners = case
    program = lower(graph, placement, devices, owners)
    for device in devices:
        ledger = Ledger(program, device)
        for instruction in program.instructions[device]:
            before = ledger.live
            high = ledger.step(instruction)
            assert high >= (ledger.live if isinstance(instruction, Free) else before)
            assert ledger.peak >= high
        lent = {n for n, e in program.inputs.items() if e.lent and e.device == device}
        roots = {_root(program, name, device) for name in lent | {n for n, _ in Boundary(program).kept(device)}}
        assert ledger.live == sum(program.values[name].nbytes for name in roots)


def _root(program: Program, name: str, device: str) -> str:
    runs_here = any(name in i.outputs for d, i in program if isinstance(i, Run) and d == device)
    return program.values[name].base or name if runs_here else name


@given(placed())
def test_values_are_freed_right_behind_their_last_use(case: tuple) -> None:
    graph, devices, placement, owners = case
    program = lower(graph, placement, devices, owners)
    for device in devices:
        steps, keep = program.instructions[device], Boundary(program).kept(device)
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
segment s0 on gpu:0 peak 105: a
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
    assert peak_memory(program)["gpu:0"] == 100 + 100 + 10 + 105, "state, sum, and one micro-batch's x and segment"


def test_a_view_of_one_microbatch_stands_in_its_own_memory() -> None:
    program = Program("toy", ("gpu:0",), {"y": Slot(100), "view": Slot(100, "y")})
    program.segments = {"s0": Segment("s0", "gpu:0", ("a",), 100)}
    program.instructions = {"gpu:0": [Run("s0", (), ("y",)), Run("s0", (), ("view",), 1)]}
    assert peak_memory(program)["gpu:0"] == 200


def test_state_is_not_freed_by_a_later_microbatch() -> None:
    program = Program("toy", ("gpu:0",), {"w": Slot(8), "y": Slot(8)}, {"w": Entry("gpu:0", resident=True)})
    program.segments = {"s0": Segment("s0", "gpu:0", ("a",))}
    program.instructions = {"gpu:0": [Run("s0", ("w",), ("y",), 3), Update("w", "y", 3)]}
    insert_frees(program)
    assert [i for _, i in program if isinstance(i, Free)] == [Free("y", 3)]


def test_what_a_device_keeps() -> None:
    program = lower(chain(2), {"v0": "gpu:0", "v1": "gpu:1"}, ("gpu:0", "gpu:1"))
    assert Boundary(program).kept("gpu:0") == {("w0", 0)}
    assert Boundary(program).kept("gpu:1") == {("w1", 0), ("v1", 0)}
    program.outputs = (*program.outputs, Exit(None))
    assert Boundary(program).kept("gpu:1") == {("w1", 0), ("v1", 0)}


def test_a_view_keeps_what_it_views_alive() -> None:
    b = Builder()
    y = b.add_op(b.input("x", 1), shape=(50,), name="y")
    b.returns(b.view(y, "view"))
    program = lower(b.graph, {"y": "gpu:0", "view": "gpu:0"}, ("gpu:0",))
    ledger = Ledger(program, "gpu:0")
    for instruction in program.instructions["gpu:0"]:
        ledger.step(instruction)
    assert ledger.live == 200 + 4, "the caller's x, too"
    assert dataclasses.replace(program.values["view"]) == Slot(200, "y")


def test_frees_behind_a_run_are_those_in_a_row() -> None:
    steps = [Run("s0", ("a", "b")), Free("a"), Free("b", 1), Run("s1"), Free("c")]
    assert freed_behind(steps, 0) == {("a", 0), ("b", 1)}
    assert freed_behind(steps, 1) == {("b", 1)}
    assert freed_behind(steps, 4) == set()


def test_what_the_caller_lends_stays_when_it_is_freed() -> None:
    program = lower(chain(2), dict.fromkeys(("v0", "v1"), "gpu:0"), ("gpu:0",))
    assert program.inputs["x"].lent
    ledger = Ledger(program, "gpu:0")
    for instruction in program.instructions["gpu:0"]:
        ledger.step(instruction)
    assert Free("x") in program.instructions["gpu:0"]
    assert ledger.live == 4 * 16, "x, two parameters and the output"


def test_inputs_may_stand_in_the_same_memory() -> None:
    program = Program("toy", ("gpu:0",), {"a": Slot(8, None, 100), "b": Slot(8, "a"), "w": Slot(8)})
    program.inputs = {"a": Entry("gpu:0"), "b": Entry("gpu:0"), "w": Entry("gpu:0", resident=True)}
    program.background = {"gpu:0": {"optimizer": 16}}
    program.instructions = {"gpu:0": [Free("a"), Free("b")]}
    ledger = Ledger(program, "gpu:0")
    lives = [ledger.live, *(ledger.step(i) for i in program.instructions["gpu:0"])]
    assert lives == [16 + 8 + 100, 16 + 8 + 100, 16 + 8]
    assert ledger.peak == 124
