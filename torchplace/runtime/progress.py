"""Tells people at a terminal what is being measured for them, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Tell = Callable[[str, float], None]
"""Is told what is being measured, and which share of it is done (0 to 1)."""


class Display(Protocol):
    """What shows something on the terminal as long as it is started; rich's `Progress` for one."""

    def start(self) -> None:
        """Show it."""

    def stop(self) -> None:
        """Hide it."""


_shown: ContextVar[Display | None] = ContextVar("shown", default=None)


def nobody(what: str, share: float) -> None:
    """Is told how far it is, where nobody wants to know."""


@contextmanager
def giving_way(display: Display) -> Iterator[None]:
    """Within, what is measured hides a display that is started, and shows how far it is in its place.

    For callers whose display moves by a thread of its own, which would disturb what is measured.
    """
    token = _shown.set(display)
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def telling(title: str) -> Iterator[Tell]:
    """Gives what is to be told how far a measurement is: a bar on stderr, from the first word on, if it is a terminal.

    Args:
        title: what is measured, and why.
    """
    bar = _Bar(title, _shown.get())
    try:
        yield bar.tell
    finally:
        bar.stop()


class _Bar:
    """A bar without a thread: it is drawn when it is told something, between what is timed, and not meanwhile."""

    def __init__(self, title: str, hidden: Display | None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.title, self.hidden, self.started = title, hidden, False
        self.progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        self.task = self.progress.add_task(title, total=1.0)

    def tell(self, what: str, share: float) -> None:
        if not self.progress.console.is_terminal:
            return
        if not self.started:
            self.started = True
            if self.hidden is not None:
                self.hidden.stop()
            self.progress.start()
        self.progress.update(self.task, description=f"{self.title}: {what}", completed=share, refresh=True)

    def stop(self) -> None:
        if self.started:
            self.progress.stop()
            if self.hidden is not None:
                self.hidden.start()
