"""Progress of long work: who works says how far it is, and whoever wants to know listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("torchplace progress", default=None)


def tell(what: str) -> None:
    """Say how far the work is, in a few words; nobody need listen."""
    listener = _listener.get()
    if listener is not None:
        listener(what)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Within the context, `listener` is called with what is told."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)
