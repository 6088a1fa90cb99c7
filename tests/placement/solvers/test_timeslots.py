from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.solvers.timeslots import Timeslots

TIMES = st.integers(0, 40).map(float)


@given(st.lists(st.tuples(TIMES, st.integers(0, 8).map(float)), max_size=30))
def test_the_earliest_slot_is_what_a_search_finds(jobs: list[tuple[float, float]]) -> None:
    slots, busy = Timeslots(), list[tuple[float, float]]()
    for ready, duration in jobs:
        start = slots.earliest(ready, duration)
        slots.occupy(start, duration)
        if duration == 0.0:
            assert start == ready
            continue
        possible = sorted({ready, *(end for _, end in busy if end >= ready)})
        assert start == next(s for s in possible if all(e <= s or b >= s + duration for b, e in busy))
        busy.append((start, start + duration))


def test_the_search_is_bounded() -> None:
    slots = Timeslots()
    for i in range(Timeslots.MAX_GAPS + 10):
        slots.occupy(3.0 * i + 1.0, 2.0)  # gaps of one second
    slots.occupy(slots.free_from + 5.0, 1.0)
    assert slots.earliest(0.0, 1.0) == 0.0
    assert slots.earliest(0.0, 5.0) == slots.free_from  # the gap of five is behind too many small ones
    assert slots.earliest(slots.free_from - 7.0, 5.0) == slots.free_from - 6.0
