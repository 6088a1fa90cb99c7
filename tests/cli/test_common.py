"""The spinner and the bar on stderr: there for people at a terminal, and for nobody else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from torchplace.cli import common
from torchplace.cli.common import Waiting
from torchplace.runtime.progress import telling


def console(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(
        common, "errors", Console(file=out, force_terminal=terminal, width=100, highlight=False, _environ={})
    )
    return out


def wait() -> None:
    with Waiting("solving", total=3) as waiting:
        waiting.note("one [of] them")
        waiting.line("it is [b]done[/b]")
        waiting.advance()
        waiting.progress.refresh()


def test_a_bar_counts_what_is_done_and_results_stay_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    out = console(monkeypatch, terminal=True)
    wait()
    shown = out.getvalue()
    assert "it is [b]done[/b]" in shown
    assert "solving: one [of] them" in shown
    assert "1/3" in shown
    assert shown.rindex("\x1b[2K") > shown.rindex("1/3"), "the bar is cleared at the end"


def test_nothing_is_written_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    out = console(monkeypatch, terminal=False)
    wait()
    with Waiting("spinning"):
        pass
    assert out.getvalue() == ""


def test_it_gives_way_to_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    console(monkeypatch, terminal=True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # so that the other bar believes in a terminal, too
    with Waiting("solving", total=3) as waiting:
        with telling("measuring") as told:
            told("speeds", 0.5)
            assert not waiting.progress.live.is_started
        assert waiting.progress.live.is_started
    assert not waiting.progress.live.is_started
