"""What was found in a capture is noted, told, and limited for each line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode

from torchplace.compiler import foresight as module
from torchplace.compiler.foresight import (
    Foresight,
    alike,
    are_wanted,
    calls_of,
    expected_now,
    foreseen_for,
    found_now,
    is_vain,
    may_expect,
    nothing_expected,
    remembered,
    settle,
    tried_in_vain,
)


@contextmanager
def capture(foresight: Foresight | None) -> Iterator[None]:
    with foreseen_for(foresight), tracing(TracingContext(FakeTensorMode())):
        yield


def note(value: Any, line: str = "/models/net.py:7") -> bool:
    return remembered(line, lambda call: value, value)


def test_what_was_found_is_told_of_the_capture_that_it_was_found_in() -> None:
    foresight = Foresight()
    with capture(foresight):
        assert note(True)
        assert note(3, "/models/net.py:9")
        assert note(4, "/models/net.py:9")
        assert found_now() == ("models/net.py:7 finds True", "models/net.py:9 finds 3, 4")
    with capture(foresight):
        assert found_now() == ()


def test_nothing_is_noted_where_nothing_is_wanted() -> None:
    with capture(None):
        assert not are_wanted()
        assert not note(True)
        assert found_now() == ()


def test_a_line_has_so_many_findings_in_all_captures_and_those_that_it_has_had_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    foresight, noted = Foresight(), []
    for value in (1, 2, 3, 1, 2, 3):
        with capture(foresight):
            noted.append(note(value))
            settle()
    assert noted == [True, True, False, True, True, False]
    with capture(foresight):
        assert note(3, "/models/net.py:9"), "another line has its own"


def test_several_findings_at_a_line_of_one_capture_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    foresight = Foresight()
    for _ in range(2):
        with capture(foresight):
            assert all(note(value) for value in range(5))
            settle()
    with capture(foresight):
        assert note(0)
        assert not note(2)


def test_what_a_trace_has_found_that_begins_anew_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    foresight = Foresight()
    for value in range(3):
        with capture(foresight):
            assert note(value)


def test_what_is_expected_is_told_and_limited_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EXPECTED", 1)
    foresight = Foresight(may_expect=lambda: True)
    with capture(foresight):
        assert may_expect()
        assert remembered("/models/net.py:7", None, True)
        assert note(3, "/models/net.py:9")
        assert expected_now() == (("/models/net.py:7", True),)
        assert found_now() == ("models/net.py:7 expects True", "models/net.py:9 finds 3")
        settle()
    with capture(foresight):
        assert not remembered("/models/net.py:7", None, False)
        assert note(3, "/models/net.py:9")


def test_where_more_than_a_quarter_of_calls_is_unexpected_nothing_is_expected_any_more() -> None:
    foresight = Foresight(may_expect=lambda: True, calls=15)
    for _ in range(3):
        foresight.count_unexpected()
    assert not foresight.gave_up
    with capture(foresight):
        assert may_expect()
        foresight.count_unexpected()
        assert not may_expect()


def test_there_may_be_more_graphs_after_many_calls() -> None:
    assert Foresight(calls=1000).most > Foresight().most


def test_nothing_is_expected_where_a_call_cannot_begin_anew() -> None:
    with capture(Foresight(may_expect=lambda: True)), nothing_expected():
        assert not may_expect()
    with capture(Foresight()):
        assert not may_expect()
    assert not may_expect()


def test_what_was_tried_in_vain_is_known() -> None:
    outcomes = (("/models/net.py:7", True),)
    with tried_in_vain({outcomes}):
        assert is_vain(outcomes)
    assert not is_vain(outcomes)


def test_calls_that_are_alike_stand_for_the_call() -> None:
    given = {"x": 1}, {"y": 2}
    assert [call.variables for call in calls_of(*given)] == [{"L": {"x": 1}, "G": {"y": 2}}]
    with alike([{"x": 3}, {"x": 4}]):
        assert [call.variables["L"] for call in calls_of(*given)] == [{"x": 3}, {"x": 4}]
        with alike(()):
            assert len(calls_of(*given)) == 1
            assert [call.variables["L"] for call in calls_of({"x": 3, "z": 5}, {}, whole=True)] == [{"x": 3, "z": 5}]
        assert [call.variables["L"] for call in calls_of({"x": 3, "z": 5}, {}, whole=True)][1] == {"x": 4, "z": 5}
