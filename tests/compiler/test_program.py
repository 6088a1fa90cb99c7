from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import chain, placed
from torchplace.compiler.instructions import Free, Run, Send
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Entry, Exit, Program, Segment, Slot
from torchplace.errors import ProgramError

TEXT = """
program "toy" on gpu:0, gpu:1
value %x: 16 bytes
value %v0: 16 bytes of %x
value %p: 16 bytes in 64
value %q: 16 bytes in 4 of %p
input %x on gpu:0 lent
input %w on gpu:1 resident
background 12 bytes of optimizer on gpu:1
background 3 bytes of caller on gpu:1
segment s0 on gpu:0 peak 16: v0
output %v1 on gpu:1
output none
gpu:0:
  run s0 (%x) -> %v0
  send %v0 to gpu:1
gpu:1:
""".strip()


def test_a_program_and_its_text() -> None:
    program = Program.parse(TEXT)
    assert (program.name, program.devices) == ("toy", ("gpu:0", "gpu:1"))
    assert program.values == {"x": Slot(16), "v0": Slot(16, "x"), "p": Slot(16, None, 64), "q": Slot(16, "p", 4)}
    assert [slot.memory for slot in program.values.values()] == [16, 16, 64, 4]
    assert program.inputs == {"x": Entry("gpu:0", lent=True), "w": Entry("gpu:1", True)}
    assert program.background == {"gpu:1": {"optimizer": 12, "caller": 3}}
    assert program.segments == {"s0": Segment("s0", "gpu:0", ("v0",), 16)}
    assert program.outputs == (Exit("v1", "gpu:1"), Exit(None))
    assert program.instructions == {"gpu:0": [Run("s0", ("x",), ("v0",)), Send("v0", "gpu:1")], "gpu:1": []}
    assert [(d, type(i)) for d, i in program] == [("gpu:0", Run), ("gpu:0", Send)]
    assert str(program) == TEXT


@given(placed(), st.text(max_size=5))
def test_lowered_programs_round_trip(case: tuple, name: str) -> None:
    graph, devices, placement, owners = case
    graph.name = name
    program = lower(graph, placement, devices, owners)
    again = Program.parse(str(program))
    assert again == program
    assert str(again) == str(program)


def test_a_program_of_several_microbatches_round_trips() -> None:
    program = lower(chain(2), {"v0": "gpu:0", "v1": "gpu:1"}, ("gpu:0", "gpu:1"))
    program.instructions["gpu:0"] += [Free("v0", 1), Run("s0", ("x",), ("v0",), 3)]
    assert Program.parse(str(program)) == program


BAD_LINES = {
    "nonsense": "expected microbatches, a value, input, background, segment, output, device or (indented) instruction",
    "value %x: many bytes": "expected microbatches, a value",
    "value x: 16 bytes": "expected microbatches, a value",
    "input %x": "expected microbatches, a value",
    "input %x on gpu:0 lent resident": "expected microbatches, a value",
    "background many bytes of w on gpu:0": "expected microbatches, a value",
    "background 1 bytes of w on gpu:0\nbackground 2 bytes of w on gpu:0": "background 'w' is listed twice",
    "segment s0 on gpu:0: v0": "expected microbatches, a value",
    "output %x": "expected microbatches, a value",
    "gpu:0:\n  send %x": "cannot read the instruction 'send %x'",
    "  free %x": "an instruction stands before the first device",
    "value %x: 1 bytes\nvalue %x: 2 bytes": "value 'x' is listed twice",
    "input %x on gpu:0\ninput %x on gpu:1": "input 'x' is listed twice",
    "segment s0 on gpu:0 peak 0: a\nsegment s0 on gpu:0 peak 0: b": "segment 's0' is listed twice",
    "gpu:0:\ngpu:0:": "device 'gpu:0' is listed twice",
}


@pytest.mark.parametrize("lines", BAD_LINES)
def test_a_bad_line_is_named(lines: str) -> None:
    number, last = 1 + len(lines.splitlines()), lines.splitlines()[-1]
    with pytest.raises(ProgramError) as caught:
        Program.parse(f'program "toy" on gpu:0, gpu:1\n{lines}\n')
    assert str(caught.value).startswith(f"line {number} of the program, {last!r}: ")
    assert BAD_LINES[lines] in str(caught.value)


BAD_HEADERS = ["", "\n", "gpu:0:", "program toy on gpu:0", 'program "toy"', 'program "to"y" on gpu:0']


@pytest.mark.parametrize("text", BAD_HEADERS)
def test_a_bad_header_is_an_error(text: str) -> None:
    with pytest.raises(ProgramError, match="cannot read the program's first line"):
        Program.parse(text)
