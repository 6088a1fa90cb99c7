"""What ops do beside computing, such as calling a user's hooks or printing: not while they are only timed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHECK, PRINT = "aten._assert_async.msg", "torchplace.printed_line.default"
"""Targets of the ops that compute nothing: checks of values, and prints."""


class _Local(threading.local):
    timed = False


_local = _Local()


@contextmanager
def only_timed() -> Iterator[None]:
    """Within, in this thread, ops compute and do nothing else: nobody has called the model."""
    before, _local.timed = _local.timed, True
    try:
        yield
    finally:
        _local.timed = before


def acting() -> bool:
    """Whether an op does what it does beside computing."""
    return not _local.timed
