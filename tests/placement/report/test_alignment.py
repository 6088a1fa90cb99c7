"""Predicted beside measured, computed by hand."""

from __future__ import annotations

import pytest

from tests.compiler.graphs import Builder
from tests.placement.graphs import Table
from tests.placement.written import line, program
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Recv, Run, Send
from torchplace.compiler.lower import lower
from torchplace.placement.report.alignment import BESIDE, Aligned, Family, Pair, Ran, align, describe, families
from torchplace.placement.simulate import simulate
from torchplace.placement.timeline import Event, Timeline

COSTS = {"one": 1.0, "two": 2.0, "three": 4.0}


def graph() -> Graph:
    b = Builder()
    x = b.input("x", 4)
    one = b.op("aten.mm.default", x, name="one", module="net.0")
    two = b.op("aten.relu.default", one, name="two", module="net.1")
    b.returns(b.op("aten.mm.default", two, name="three", module="net.2"))
    return b.graph


def ran(*steps: tuple[float, float, float, float], ops: dict[str, list[float]] | None = None) -> Ran:
    """`one` and `two` on a, `three` on b; of each step, when the first ends, the send ends, the second begins and ends.

    b waits from 0 on for the value.
    """
    found = graph()
    made = lower(found, {"one": "a", "two": "a", "three": "b"}, ("a", "b"), {"x": "a"})
    (first,), (second,) = ([i for i in made.instructions[d] if isinstance(i, Run)] for d in "ab")
    timelines = [
        Timeline([
            Event("a", first, 0.0, end),
            Event("b", Recv("two", "a"), 0.0, begin),
            Event("a", Send("two", "b"), end, sent),
            Event("b", second, begin, over),
        ])
        for end, sent, begin, over in steps
    ]  # fmt: skip
    predicted = simulate(made, found, line("ab"), Table(COSTS))
    return Ran(made, found, predicted, timelines, COSTS, 0.0, ops or {})


STEPS = [(4.0, 4.5, 5.0, 10.0), (5.0, 5.5, 6.0, 12.0), (6.0, 6.5, 8.5, 13.5)]


def test_instruction_by_instruction() -> None:
    """Medians of 4, 5, 6; of 5, 6, 5; and from the hand-over to b, of 1, 1 and 2.5."""
    rows = {one.what.partition(":")[0]: (one.device, one.predicted, one.measured) for one in align([ran(*STEPS)])}
    assert rows == {
        "run s0": ("a", 3.0, 5.0),
        "run s1": ("b", 4.0, 5.0),
        "send %two to b": ("a", 16.5, 1.0),
    }


def test_where_nobody_waited_nothing_tells_how_long_a_transfer_took() -> None:
    one = ran((4.0, 4.5, 5.0, 10.0))
    late = Timeline([e for e in one.measured[0].events if not isinstance(e.instruction, Recv)])
    found = align([Ran(one.program, one.graph, one.predicted, [late], COSTS)])
    (send,) = [a for a in found if isinstance(a.instruction, Send)]
    assert (send.measured, send.error) == (None, 0.0)


def test_a_value_that_is_sent_twice_is_two_sends() -> None:
    steps = {
        "a": ["send %x to b", "free %x", "run f () -> %x", "send %x to b", "free %x"],
        "b": ["recv %x from a", "run g (%x) -> %y", "free %x", "recv %x from a", "run h (%x) -> %z"],
    }
    made = program("ab", {"x": 4, "y": 1, "z": 1}, {"x": "a"}, steps)
    b = Builder()
    for name in "fgh":
        b.add_op(b.input(f"i{name}", 1), name=name)
    predicted = simulate(made, b.graph, line("ab"), Table({"f": 10.0}))
    f, g, h = (next(i for _, i in made if isinstance(i, Run) and i.segment == name) for name in "fgh")
    recv, send = Recv("x", "a"), Send("x", "b")
    timeline = Timeline([
        Event("b", recv, 0.0, 2.0), Event("a", send, 1.0, 1.5), Event("a", f, 1.5, 9.0), Event("b", g, 2.0, 3.0),
        Event("b", recv, 3.0, 14.0), Event("a", send, 10.0, 11.0), Event("b", h, 14.0, 15.0),
    ])  # fmt: skip
    sends = [a for a in align([Ran(made, b.graph, predicted, [timeline], {})]) if isinstance(a.instruction, Send)]
    assert [(a.predicted, a.measured) for a in sends] == [(4.5, 1.0), (4.5, 4.0)]


def test_families_split_a_segment_by_the_clock() -> None:
    """a's 5 s: of 4 that were clocked, 3 for mm, 0.6 for relu and 0.4 beside; b's 5 s: mm alone."""
    one = ran(*STEPS, ops={"s0": [3.0, 0.6, 0.4], "s1": [4.0, 0.0]})
    found = {row.name: row for row in families([one], align([one]))}
    assert found["aten.mm"] == Family("aten.mm", "products", 2, Pair(1.0 + 4.0, pytest.approx(3.75 + 5.0)))
    assert found["aten.relu"] == Family("aten.relu", "elementwise", 1, Pair(2.0, pytest.approx(0.75)))
    assert found[BESIDE] == Family(BESIDE, "", 0, Pair(0.0, pytest.approx(0.5)))


def test_families_split_a_segment_by_the_costs_where_nothing_was_clocked() -> None:
    one = ran(*STEPS)
    rows = families([one], align([one]))
    assert [row.name for row in rows] == ["aten.mm", "aten.relu", BESIDE], "the largest error first"
    assert rows[0].time == Pair(5.0, pytest.approx(5.0 / 3 + 5.0))
    assert rows[1].time == Pair(2.0, pytest.approx(10.0 / 3))


def test_what_is_predicted_beside_the_ops() -> None:
    one = ran(*STEPS)
    with_host = Ran(one.program, one.graph, one.predicted, one.measured, COSTS, beside=1.0)
    found = {row.name: row.time.predicted for row in families([with_host], align([with_host]))}
    # 3 s of a: a quarter each for `one` and beside, half for `two`; 4 s of b: four fifths for `three`.
    assert found == pytest.approx({"aten.mm": 0.75 + 3.2, "aten.relu": 1.5, BESIDE: 0.75 + 0.8})


def test_updates_belong_to_the_op_that_writes() -> None:
    b = Builder()
    mean, new = b.buffer("mean", 1), b.input("new", 1)
    b.update(mean, new, name="write")
    made = lower(b.graph, {"write": "a"}, ("a",))
    predicted = simulate(made, b.graph, line("a"), Table({"write": 3.0}))
    (update,) = made.instructions["a"][:1]
    one = Ran(made, b.graph, predicted, [Timeline([Event("a", update, 0.0, 2.0)])], {"write": 3.0})
    assert families([one], align([one]))[0] == Family("aten.copy_", "copies", 1, Pair(3.0, 2.0))


def test_a_segment_in_words() -> None:
    one = ran(*STEPS)
    first = next(i for i in one.program.instructions["a"] if isinstance(i, Run))
    assert describe(one, first) == "run s0: 2 ops, net.0 to net.1 (forward)"
    assert describe(one, Send("two", "b")) == "send %two to b"


def test_an_error_is_predicted_less_measured() -> None:
    assert Pair(3.0, 4.0).error == -1.0
    assert Aligned(0, "a", Send("x", "b"), "send", 3.0, 1.0).error == 2.0
