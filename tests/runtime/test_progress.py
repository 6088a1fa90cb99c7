"""What is being measured is told to people at a terminal, and to nobody else."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest

from torchplace.runtime.progress import giving_way, nobody, telling

ERASE = "\x1b[2K"
"""What clears a line of a terminal."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Spinner:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """From now on stderr is a terminal. No fixture: pytest sets stderr anew when the test itself begins."""
    for name, value in (("TERM", "xterm"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    return found


def test_a_bar_on_a_terminal_says_what_is_done_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = terminal(monkeypatch)
    with telling("measuring") as told:
        told("speeds", 0.25)
        assert "measuring: speeds" in stderr.getvalue()
        told("links", 0.5)
    _, _, last = stderr.getvalue().rpartition("measuring: links")
    assert ERASE in last


def test_nothing_where_nothing_is_told_or_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr, spinner = terminal(monkeypatch), Spinner()
    with giving_way(spinner), telling("measuring"):
        pass
    assert stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    with giving_way(spinner), telling("measuring") as told:
        told("speeds", 0.5)
    assert file.getvalue() == ""
    assert spinner.calls == []
    nobody("speeds", 0.5)


def test_what_moves_by_itself_is_hidden_from_the_first_word_on(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    spinner = Spinner()
    with giving_way(spinner):
        with telling("measuring") as told:
            assert spinner.calls == []
            told("speeds", 0.0)
            told("links", 0.5)
            assert spinner.calls == ["stop"]
        assert spinner.calls == ["stop", "start"]
    with telling("measuring") as told:
        told("speeds", 0.0)
    assert spinner.calls == ["stop", "start"], "it is not shown any more"


def test_what_was_hidden_is_shown_again_where_measuring_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    spinner = Spinner()
    with giving_way(spinner), contextlib.suppress(KeyboardInterrupt), telling("measuring") as told:
        told("speeds", 0.0)
        raise KeyboardInterrupt
    assert spinner.calls == ["stop", "start"]
