from __future__ import annotations

from torchplace.compiler.instructions import Run, Send
from torchplace.placement.timeline import Event, Timeline

FORWARD = Timeline(
    [
        Event("a", Run("s0"), 0.0, 2.0),
        Event("a", Send("x", "b"), 2.0, 5.0, ("a->s", "s->b"), 100),
        Event("a", Send("y", "b"), 2.5, 4.0, ("a->s", "s->b"), 10),
        Event("b", Run("s1"), 5.0, 6.0),
    ],
    {"a": 10, "b": 20},
)


def test_figures() -> None:
    assert FORWARD.duration == 6.0
    assert [FORWARD.busy(d) for d in ("a", "b", "c")] == [2.0, 1.0, 0.0]
    assert FORWARD.link_bytes == {"a->s": 110, "s->b": 110}
    assert [e.instruction for e in FORWARD.of("b")] == [Run("s1")]
    assert FORWARD.of("c") == []


def test_an_empty_timeline() -> None:
    assert Timeline().duration == 0.0
    assert Timeline().link_bytes == {}
    assert Timeline.joined([]) == Timeline()


def test_the_duration_is_the_last_end_not_the_last_events() -> None:
    assert Timeline([Event("a", Run("s"), 0.0, 9.0), Event("b", Run("t"), 1.0, 2.0)]).duration == 9.0


def test_joined() -> None:
    backward = Timeline([Event("b", Run("s0"), 0.0, 3.0), Event("b", Send("g", "a"), 3.0, 4.0, ("b->a",), 7)], {"b": 5})
    whole = Timeline.joined([FORWARD, backward])
    assert whole.duration == 10.0
    assert [(e.start, e.end) for e in whole.events[4:]] == [(6.0, 9.0), (9.0, 10.0)]
    assert whole.events[:4] == FORWARD.events
    assert whole.peak_memory == {"a": 10, "b": 20}, "the larger of each"
    assert whole.link_bytes == {"a->s": 110, "s->b": 110, "b->a": 7}
    assert FORWARD.duration == 6.0, "left alone"
