"""Work that has to be done between two moments, shared by all devices."""

from __future__ import annotations

import numpy as np

from torchplace.placement.bounds.work import Floats

_MOMENTS = 64
"""So many heads, and as many tails, are tried as the ends of an interval."""


def interval_work(heads: Floats, share: Floats, tails: Floats) -> float:
    """The least makespan that leaves devices enough time for what cannot start early, and cannot end late.

    Ops that start no earlier than a, and behind whose ends at least b follows, are done in what is left of the makespan
    between: it is a + b + the time that all devices together take for them, at least. Fernandez and Bussell, "Bounds on
    the number of processors and time for multiprocessor optimal schedules" (IEEE Transactions on Computers C-22, 1973);
    the heads and tails of Carlier and Pinson's bounds for parallel machines.

    Args:
        heads: earliest start of each op, seconds.
        share: seconds that all devices together take for each op, at least.
        tails: seconds from the end of each op to the end of all, at least.

    Cost: O(n log n + 64 x 64) for n ops: pairs of moments are a sample, and each pair is a bound by itself.
    """
    if not len(heads):
        return 0.0
    starts, ends = _moments(heads), _moments(tails)
    work = np.zeros((len(starts), len(ends)))
    late, early = (np.searchsorted(m, t, "right") - 1 for m, t in ((starts, heads), (ends, tails)))
    np.add.at(work, (late, early), share)
    done = work[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    return float(np.max(np.where(done > 0, starts[:, None] + ends[None, :] + done, 0.0)))


def _moments(times: Floats) -> Floats:
    """A sample of times, the least among them."""
    different = np.unique(times)
    if len(different) <= _MOMENTS:
        return different
    places = np.linspace(0, len(different) - 1, _MOMENTS).astype(int)
    return np.asarray(different[places])
