from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.compiler.graphs import chain, placed
from torchplace.compiler.instructions import Free, Instruction, Recv, Run, Send
from torchplace.compiler.lifetimes import peak_memory
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Exit, Program
from torchplace.compiler.verify import Fault, find_faults, verify
from torchplace.errors import ProgramError

HEAD = """
program "toy" on gpu:0, gpu:1
value %x: 16 bytes
value %y: 16 bytes
value %z: 16 bytes
value %w: 64 bytes
input %x on gpu:0
input %w on gpu:0 resident
segment a on gpu:0 peak 16: one
segment b on gpu:1 peak 16: two
output %z on gpu:1
"""
FIRST = ["run a (%x, %w) -> %y", "free %x", "send %y to gpu:1", "free %y"]
SECOND = ["recv %y from gpu:0", "run b (%y) -> %z", "free %y"]


def program(first: list[str] = FIRST, second: list[str] = SECOND, head: str = HEAD) -> Program:
    lines = ["gpu:0:", *(f"  {i}" for i in first), "gpu:1:", *(f"  {i}" for i in second)]
    return Program.parse(head + "\n".join(lines))


def faults(*args: list[str], head: str = HEAD, capacity: dict[str, int] | None = None) -> list[str]:
    return [str(fault) for fault in find_faults(program(*args, head=head), capacity or {})]


def without(steps: list[str], line: str) -> list[str]:
    assert line in steps
    return [s for s in steps if s != line]


def test_a_sound_program_passes() -> None:
    assert faults() == []
    assert faults(capacity={"gpu:0": 96, "gpu:1": 32, "elsewhere": 0}) == []
    verify(program())


MALFORMED = [
    (["run c (%x) -> %y"], "malformed at gpu:0, instruction 0: 'run c (%x) -> %y': there is no segment 'c'"),
    (["run b (%x) -> %y"], "malformed at gpu:0, instruction 0: 'run b (%x) -> %y': the segment belongs to gpu:1"),
    (["send %y to gpu:7"], "malformed at gpu:0, instruction 0: 'send %y to gpu:7': 'gpu:7' is no other device of the program"),
    (["send %y to gpu:0"], "malformed at gpu:0, instruction 0: 'send %y to gpu:0': 'gpu:0' is no other device of the program"),
    (["recv %y from gpu:9"], "malformed at gpu:0, instruction 0: 'recv %y from gpu:9': 'gpu:9' is no other device of the program"),
    (["free %x", "free %q"], "malformed at gpu:0, instruction 1: 'free %q': the program has no value %q"),
    (["run a (%x, %q) -> %y"], "malformed at gpu:0, instruction 0: 'run a (%x, %q) -> %y': the program has no value %q"),
    (["accumulate %x into %q"], "malformed at gpu:0, instruction 0: 'accumulate %x into %q': the program has no value %q"),
    (["update %y with %x"], "malformed at gpu:0, instruction 0: 'update %y with %x': %y is no input of the program"),
    (["reduce %x by sum over gpu:0, gpu:5"],
     "malformed at gpu:0, instruction 0: 'reduce %x by sum over gpu:0, gpu:5': 'gpu:5' is no device of the program"),
    (["reduce %x by sum over gpu:1"],
     "malformed at gpu:0, instruction 0: 'reduce %x by sum over gpu:1': the group does not have this device"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "message"), MALFORMED)
def test_malformed(steps: list[str], message: str) -> None:
    assert faults(steps, []) == [message]


def test_devices_that_the_program_does_not_have() -> None:
    strange = program()
    strange.instructions["gpu:5"] = []
    assert [str(f) for f in find_faults(strange, {})] == [
        "malformed at gpu:5: is no device of the program; expected one of ('gpu:0', 'gpu:1')"
    ]
    head = HEAD.replace("input %x on gpu:0", "input %x on gpu:5")
    assert faults(head=head) == ["malformed at gpu:5: input %x starts on an unknown device"]
    head = HEAD.replace("output %z on gpu:1", "output %z on gpu:5")
    assert faults(head=head) == ["malformed at gpu:5: output %z ends on an unknown device"]
    assert faults(head=HEAD.replace("value %w: 64 bytes\n", "")) == [
        "malformed at gpu:0: the program has no value %w, which it takes",
        "malformed at gpu:0, instruction 0: 'run a (%x, %w) -> %y': the program has no value %w",
    ]


def test_use_before_definition() -> None:
    swapped = ["send %y to gpu:1", "run a (%x, %w) -> %y", "free %x", "free %y"]
    assert faults(swapped) == ["undefined at gpu:0, instruction 0: 'send %y to gpu:1': %y is not on this device yet"]
    assert "undefined at gpu:1, instruction 0: 'run b (%y) -> %z': %y is not on this device yet" in faults(
        FIRST, ["run b (%y) -> %z", "recv %y from gpu:0", "free %y"]
    )


def test_use_after_free() -> None:
    assert faults(["free %x", *without(FIRST, "free %x")]) == [
        "undefined at gpu:0, instruction 1: 'run a (%x, %w) -> %y': %x has been freed"
    ]


def test_double_free() -> None:
    assert faults([*FIRST, "free %y"]) == ["double-free at gpu:0, instruction 4: 'free %y': %y has been freed before"]
    assert faults(FIRST, ["free %z", *SECOND]) == [
        "undefined at gpu:1, instruction 0: 'free %z': %z is not on this device yet"
    ]


def test_what_is_still_held_is_not_made_again() -> None:
    again = [*FIRST[:1], "run a (%x, %w) -> %y", *FIRST[1:]]
    assert faults(again) == [
        "redefined at gpu:0, instruction 1: 'run a (%x, %w) -> %y': %y is still held; free it first"
    ]
    sums = ["accumulate %x into %y", "accumulate %x into %y @1", "free %x", "send %y to gpu:1", "free %y"]
    assert "redefined" not in "".join(faults(sums)), "a sum is made again and again"


def test_leaks() -> None:
    assert faults(without(FIRST, "free %x")) == ["leak at gpu:0: %x is still held at the end; free it"]
    assert faults(FIRST, without(SECOND, "free %y")) == ["leak at gpu:1: %y is still held at the end; free it"]


def test_what_must_stay_is_not_freed() -> None:
    assert faults(FIRST, [*SECOND, "free %z"]) == ["undefined at gpu:1: output %z has been freed"]
    assert faults([*FIRST, "free %w"]) == ["undefined at gpu:0: state %w has been freed"]


def test_outputs_that_are_never_made() -> None:
    assert faults(head=HEAD + "output %y on gpu:0\noutput %q on gpu:1\n") == [
        "undefined at gpu:0: output %y has been freed",
        "undefined at gpu:1: output %q is never made there",
    ]


def test_unmatched() -> None:
    assert faults(without(FIRST, "send %y to gpu:1")) == [
        "unmatched at gpu:1: %y is received from gpu:0, which never sends it"
    ]
    lost = ["run b () -> %z"]
    assert faults(FIRST, lost) == ["unmatched at gpu:0: %y is sent to gpu:1 but never received there"]
    assert "unmatched at gpu:0: %y @2 is sent to gpu:1 but never received there" in faults(
        [*FIRST[:3], "send %y to gpu:1 @2", "free %y"]
    )


CROSSED = """
program "toy" on gpu:0, gpu:1
value %x: 16 bytes
value %y: 16 bytes
input %x on gpu:0
input %y on gpu:1
"""


def test_a_deadlock_under_the_rendezvous_rule() -> None:
    """With buffered sends this would run; where a send waits for its receive (NCCL), both wait for ever."""
    first = ["send %x to gpu:1", "free %x", "recv %y from gpu:1", "free %y"]
    second = ["send %y to gpu:0", "free %y", "recv %x from gpu:0", "free %x"]
    assert faults(first, second, head=CROSSED) == [
        "deadlock at gpu:0, instruction 0: 'send %x to gpu:1' waits for ever",
        "deadlock at gpu:1, instruction 0: 'send %y to gpu:0' waits for ever",
    ]
    assert faults(first, [*second[2:], *second[:2]], head=CROSSED) == []


def test_messages_must_be_taken_in_the_order_in_which_they_are_sent() -> None:
    head = CROSSED.replace("input %y on gpu:1", "input %y on gpu:0")
    first = ["send %x to gpu:1", "free %x", "send %y to gpu:1", "free %y"]
    second = ["recv %y from gpu:0", "recv %x from gpu:0", "free %x", "free %y"]
    assert [line.split(":")[0] for line in faults(first, second, head=head)] == ["deadlock at gpu", "deadlock at gpu"]


def test_a_deadlock_of_three() -> None:
    head = 'program "ring" on a, b, c\n' + "".join(f"value %{n}: 1 bytes\ninput %{n} on {n}\n" for n in "abc")
    lines = []
    for here, right, left in ("abc", "bca", "cab"):
        steps = [f"recv %{left} from {left}", f"send %{here} to {right}", f"free %{here}", f"free %{left}"]
        lines += [f"{here}:", *(f"  {s}" for s in steps)]
    found = find_faults(Program.parse(head + "\n".join(lines)), {})
    assert [(f.kind, f.device, f.line) for f in found] == [("deadlock", d, 0) for d in "abc"]


def test_collectives_meet() -> None:
    both = ["reduce %x by sum over gpu:0, gpu:1", "free %x"]
    head = CROSSED.replace("%y on gpu:1", "%y on gpu:0")
    assert faults(["send %x to gpu:1", "free %y", *both], ["recv %x from gpu:0", *both], head=head) == []
    alone = ["recv %x from gpu:0", "free %x"]
    assert faults(["send %x to gpu:1", "free %y", *both], alone, head=head) == [
        "deadlock at gpu:0, instruction 2: 'reduce %x by sum over gpu:0, gpu:1' waits for ever"
    ]


def test_capacity() -> None:
    assert peak_memory(program()) == {"gpu:0": 96, "gpu:1": 32}
    assert faults(capacity={"gpu:0": 95, "gpu:1": 2}) == [
        "capacity at gpu:0: needs 96 bytes at its peak, has 95: 1 too few",
        "capacity at gpu:1: needs 32 bytes at its peak, has 2: 30 too few",
    ]


def test_all_faults_are_reported_at_once() -> None:
    bad = program(["run a (%x, %w) -> %y", "free %y", "free %y"], [*SECOND, "free %z"])
    with pytest.raises(ProgramError) as caught:
        verify(bad, {"gpu:0": 1})
    assert str(caught.value).splitlines() == [
        "program 'toy' has 5 fault(s):",
        "  double-free at gpu:0, instruction 2: 'free %y': %y has been freed before",
        "  leak at gpu:0: %x is still held at the end; free it",
        "  undefined at gpu:1: output %z has been freed",
        "  unmatched at gpu:1: %y is received from gpu:0, which never sends it",
        "  capacity at gpu:0: needs 96 bytes at its peak, has 1: 95 too few",
    ]


def test_a_long_list_of_faults_is_cut() -> None:
    with pytest.raises(ProgramError) as caught:
        verify(program([*FIRST, *["free %y"] * 30]))
    lines = str(caught.value).splitlines()
    assert lines[0] == "program 'toy' has 30 fault(s):"
    assert len(lines) == 22
    assert lines[-1] == "  ... and 10 more"


def test_microbatches_of_state_are_the_state() -> None:
    steps = ["recv %y from gpu:1 @2", "run a (%w, %y) -> %z @2", "update %w with %z @2", "free %y @2", "free %z @2"]
    head = HEAD.replace("input %x on gpu:0", "input %y on gpu:1").replace("output %z on gpu:1\n", "")
    found = faults(steps, ["send %y to gpu:0 @2", "free %y"], head=head)
    assert found == ["undefined at gpu:1, instruction 0: 'send %y to gpu:0 @2': %y @2 is not on this device yet"]


@given(placed(), st.data())
def test_a_dropped_instruction_is_noticed(case: tuple, data: st.DataObject) -> None:
    graph, devices, placement, owners = case
    sound = lower(graph, placement, devices, owners)
    places = [(d, i) for d in devices for i, step in enumerate(sound.instructions[d]) if _matters(sound, step)]
    assume(places)
    device, line = data.draw(st.sampled_from(places))
    del sound.instructions[device][line]
    assert find_faults(sound, {})


def _matters(program: Program, step: Instruction) -> bool:
    """Not the run of a segment whose results nobody wants."""
    return isinstance(step, (Send, Recv, Free)) or (isinstance(step, Run) and bool(step.outputs))


@given(placed(), st.data())
def test_a_repeated_instruction_is_noticed(case: tuple, data: st.DataObject) -> None:
    graph, devices, placement, owners = case
    program = lower(graph, placement, devices, owners)
    kinds = (Send, Recv, Free)
    places = [(d, i) for d in devices for i, s in enumerate(program.instructions[d]) if isinstance(s, kinds)]
    assume(places)
    device, line = data.draw(st.sampled_from(places))
    program.instructions[device].insert(line, program.instructions[device][line])
    assert find_faults(program, {})


def test_faults_say_where() -> None:
    assert str(Fault("leak", "gpu:0", -1, "%x")) == "leak at gpu:0: %x"
    assert str(Fault("undefined", "gpu:0", 3, "%x")) == "undefined at gpu:0, instruction 3: %x"


def test_a_device_without_a_list_does_nothing() -> None:
    sound = lower(chain(1), {"v0": "gpu:0"}, ("gpu:0", "gpu:1"))
    del sound.instructions["gpu:1"]
    verify(sound)
    sound.outputs = (*sound.outputs, Exit(None))
    verify(sound)
