"""When a device is busy and when it is idle: where the next op could start."""

from __future__ import annotations

from bisect import bisect_right


class Timeslots:
    """The idle gaps of one device, and the time from which it is free for good.

    Invariant: gaps are disjoint, not empty, ascending, and end at or before `free_from`.
    """

    MAX_GAPS = 64
    """Gaps that are looked at for one op: without a bound the search would be quadratic in the ops."""

    def __init__(self) -> None:
        self.free_from = 0.0
        self._starts: list[float] = []
        self._ends: list[float] = []

    def earliest(self, ready: float, duration: float) -> float:
        """The earliest start of something that is ready at a time (seconds) and takes so long.

        In the first gap that is long enough, of the first `MAX_GAPS` that end after `ready`; else at the end.
        What takes no time starts when it is ready. Cost: O(log gaps + MAX_GAPS).
        """
        if duration == 0.0:
            return ready
        if ready < self.free_from:
            first = bisect_right(self._ends, ready)
            for i in range(first, min(first + self.MAX_GAPS, len(self._ends))):
                start = max(ready, self._starts[i])
                if start + duration <= self._ends[i]:
                    return start
        return max(ready, self.free_from)

    def occupy(self, start: float, duration: float) -> None:
        """Be busy for a time that `earliest` found. Cost: O(gaps) moves of a list's tail at most."""
        end = start + duration
        if duration == 0.0:
            return
        if start >= self.free_from:
            if start > self.free_from:
                self._starts.append(self.free_from)
                self._ends.append(start)
            self.free_from = end
            return
        i = bisect_right(self._ends, start)
        pieces = [(a, b) for a, b in ((self._starts[i], start), (end, self._ends[i])) if a < b]
        self._starts[i : i + 1] = [a for a, _ in pieces]
        self._ends[i : i + 1] = [b for _, b in pieces]
