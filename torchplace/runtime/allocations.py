"""What torch's allocator gives out and gets back on the CPU, as its profiler sees it; the only file that asks it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from torch.profiler import ProfilerActivity, profile


class Allocation(NamedTuple):
    """Something that the allocator did, or (with no bytes) the beginning of a range.

    Attributes:
        time: nanoseconds.
        address: of the memory.
        nbytes: given out (above 0), or given back (below 0).
        ranges: names of the profiler's ranges and ops around it, outermost first.
    """

    time: int
    address: int
    nbytes: int
    ranges: tuple[str, ...]


def watch(action: Callable[[], object], marks: str = "") -> list[Allocation]:
    """All that the allocator does while an action runs in this thread, in order.

    What it gave out before and gets back meanwhile is left out.

    Args:
        action: is run once.
        marks: ranges whose names begin with this are in the result, too, as they begin.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when the first profiler starts; else it prints its own start
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    roots = profiler.profiler.kineto_results.experimental_event_tree()
    return sorted(_walk(roots, (), marks), key=lambda a: a.time)


def _walk(events: Iterable[Any], ranges: tuple[str, ...], marks: str) -> Iterator[Allocation]:
    for event in events:
        if event.typed[0].name == "Allocation":
            found = event.typed[1]
            yield Allocation(event.start_time_ns, found.ptr, found.alloc_size, ranges)
            continue
        inner = (*ranges, event.name)
        if marks and event.name.startswith(marks):
            yield Allocation(event.start_time_ns, 0, 0, inner)
        yield from _walk(event.children, inner, marks)
