from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.compiler.instructions import (
    Accumulate,
    Free,
    Instruction,
    Recv,
    Reduce,
    Run,
    Send,
    Update,
    parse_instruction,
)
from torchplace.errors import ProgramError

NAMES = st.from_regex(r"[\w.#]{1,8}", fullmatch=True)
DEVICES = st.sampled_from(["gpu:0", "cpu:12", "n1/gpu:3", "a"])
LISTS = st.lists(NAMES, max_size=3).map(tuple)
BATCHES = st.integers(0, 100)
INSTRUCTIONS = st.one_of(
    st.builds(Run, NAMES, LISTS, LISTS, BATCHES),
    st.builds(Send, NAMES, DEVICES, BATCHES),
    st.builds(Recv, NAMES, DEVICES, BATCHES),
    st.builds(Free, NAMES, BATCHES),
    st.builds(Accumulate, NAMES, NAMES, BATCHES),
    st.builds(Update, NAMES, NAMES, BATCHES),
    st.builds(Reduce, NAMES, st.sampled_from(["sum", "mean"]), st.lists(DEVICES, min_size=1).map(tuple), BATCHES),
)

PRINTED: dict[str, Instruction] = {
    "run s0 (%x, %w) -> %y": Run("s0", ("x", "w"), ("y",)),
    "run s0 () -> %y#0, %y#1 @3": Run("s0", (), ("y#0", "y#1"), 3),
    "run s0 (%x) ->": Run("s0", ("x",)),
    "run s0 () -> @2": Run("s0", microbatch=2),
    "send %y to gpu:1": Send("y", "gpu:1"),
    "recv %y from gpu:0 @12": Recv("y", "gpu:0", 12),
    "free %y": Free("y"),
    "accumulate %g into %sum @1": Accumulate("g", "sum", 1),
    "update %mean with %new": Update("mean", "new"),
    "reduce %g by sum over gpu:0, gpu:1": Reduce("g", "sum", ("gpu:0", "gpu:1")),
}


@given(INSTRUCTIONS)
def test_round_trip(instruction: Instruction) -> None:
    assert parse_instruction(str(instruction)) == instruction
    assert parse_instruction(f"   {instruction}  ") == instruction


@pytest.mark.parametrize("line", PRINTED)
def test_printed(line: str) -> None:
    assert str(PRINTED[line]) == line
    assert parse_instruction(line) == PRINTED[line]


@pytest.mark.parametrize(
    "line",
    ["", "jump %x", "send %x", "send x to gpu:1", "recv %x to gpu:1", "free", "free %x now", "run s0 -> %y",
     "update %x", "accumulate %x", "reduce %x by sum", "free %x @", "free %x @-1", "free %x @a", "run s0 (%x) -> %y %z",
     "run s0 (x) -> %y", "run s0 (%x) -> y", "reduce %x by sum over", "send %x to gpu:1 gpu:2", "run s0 (%x,, %y) ->"],
)  # fmt: skip
def test_what_is_no_instruction_is_an_error(line: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse_instruction(f"  {line}")
    assert str(caught.value) == (
        f"cannot read the instruction {line!r}; expected run, send, recv, free, accumulate, update or reduce"
    )
