"""What was found in a capture is noted, told, and limited for each line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode

from torchplace.compiler import findings
from torchplace.compiler.findings import Foresight, alike, are_wanted, calls_of, foreseen_for, found_now, remembered


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
    monkeypatch.setattr(findings, "MOST", 2)
    foresight, noted = Foresight(), []
    for value in (1, 2, 3, 1, 2, 3):
        with capture(foresight):
            noted.append(note(value))
    assert noted == [True, True, False, True, True, False]
    with capture(foresight):
        assert note(3, "/models/net.py:9"), "another line has its own"


def test_several_findings_at_a_line_of_one_capture_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "MOST", 1)
    foresight = Foresight()
    for _ in range(2):
        with capture(foresight):
            assert all(note(value) for value in range(5))
    with capture(foresight):
        assert note(0)
        assert not note(2)


def test_calls_that_are_alike_stand_for_the_call() -> None:
    given = {"x": 1}, {"y": 2}
    assert [call.variables for call in calls_of(*given)] == [{"L": {"x": 1}, "G": {"y": 2}}]
    with alike([{"x": 3}, {"x": 4}]):
        assert [call.variables["L"] for call in calls_of(*given)] == [{"x": 3}, {"x": 4}]
        with alike(()):
            assert len(calls_of(*given)) == 1
