from __future__ import annotations

from tests.compiler.graphs import Builder
from torchplace.compiler.carryover import NOTHING, carry_over
from torchplace.compiler.graph import Graph, Output
from torchplace.compiler.lifetimes import Ledger, peak_memory
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Entry, Program, Slot

AB = ("gpu:0", "gpu:1")


def forward() -> Graph:
    """Saves a transposed parameter, two parts of a value, the input, and what it returns."""
    b = Builder(Graph("forward"))
    x, w = b.input("x", 3), b.parameter("w", 10)
    wt = b.view(w, "wt")
    y = b.add_op(x, wt, shape=(20,), name="y")
    left, right = (b.op("aten.slice.Tensor", y, 0, shape=(10,), name=n, base=y) for n in ("left", "right"))
    z = b.add_op(left, right, shape=(5,), name="z")
    b.returns(z)
    b.graph.outputs += [Output(v, "saved") for v in (wt, left, right, x, z)]
    return b.graph


def backward() -> Graph:
    b = Builder(Graph("backward"))
    taken = [b.add(n, "saved", size) for n, size in (("wt", 10), ("left", 10), ("right", 10), ("z", 5))]
    taken.append(b.input("x", 3))
    b.graph.outputs = [Output(b.add_op(*taken, b.add("t", "tangent", 5), shape=(10,), name="gw"), "gradient", "w")]
    return b.graph


def both(placement: dict[str, str]) -> tuple[Program, Program]:
    first, second = forward(), backward()
    program = lower(first, placement, AB, {"w": "gpu:0"})
    ends = {e.value: e.device for e in program.outputs if e.value is not None}
    before = carry_over(program, first, second)
    return program, lower(second, {"gw": "gpu:0"}, AB, {**ends, "w": "gpu:0"}, before=before)


def test_whose_memory_the_saved_values_stand_in() -> None:
    first, second = both(dict.fromkeys(("wt", "y", "left", "right", "z"), "gpu:0"))
    assert second.inputs == {
        "wt": Entry("gpu:0", lent=True),  # it is the parameter's
        "left": Entry("gpu:0"),
        "right": Entry("gpu:0"),
        "z": Entry("gpu:0", lent=True),  # the caller has it
        "x": Entry("gpu:0", lent=True),
        "t": Entry("gpu:0"),
    }
    assert second.values["left"] == Slot(40, None, 80), "all of what it is a part of"
    assert second.values["right"] == Slot(40, "left")
    ledger = Ledger(second, "gpu:0")
    assert ledger.live == 4 * (10 + 20 + 5 + 3 + 5)
    for instruction in second.instructions["gpu:0"]:
        ledger.step(instruction)
    assert ledger.live == 4 * (10 + 5 + 3 + 10), "the parameter, what the caller gave and has, and the gradient"
    assert peak_memory(first)["gpu:0"] == 4 * (3 + 10 + 20 + 5)


def test_copies_on_another_device_are_not_the_parameter() -> None:
    first = forward()
    program = lower(first, dict.fromkeys(("wt", "y", "left", "right", "z"), "gpu:1"), AB, {"w": "gpu:0"})
    before = carry_over(program, first, backward())
    assert before.covered == set()
    assert before.memory["wt"] == ("wt", 40)
    assert "wt" not in before.lent, "the copy goes with it"
    assert before.lent == {"z", "x"}
    assert before.caller == {}


def test_what_no_saved_value_stands_in_is_in_the_background() -> None:
    first, second = forward(), Builder(Graph("backward"))
    left = second.add("left", "saved", 10)
    second.graph.outputs = [Output(second.add_op(left, shape=(10,), name="gw"), "gradient", "w")]
    program = lower(first, dict.fromkeys(("wt", "y", "left", "right", "z"), "gpu:0"), AB, {"w": "gpu:0"})
    before = carry_over(program, first, second.graph)
    assert before.caller == {"gpu:0": 4 * (3 + 5)}, "x and z"
    after = lower(second.graph, {"gw": "gpu:0"}, AB, {"left": "gpu:0"}, before=before)
    assert after.background == {"gpu:0": {"caller": 32}}
    assert peak_memory(after)["gpu:0"] == 32 + 80 + 40


def test_the_first_program_finds_nothing() -> None:
    program = lower(forward(), dict.fromkeys(("wt", "y", "left", "right", "z"), "gpu:0"), AB, before=NOTHING)
    assert program.background == {}
    assert program.inputs["x"] == Entry("gpu:0", lent=True)
