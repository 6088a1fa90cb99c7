"""Whole items on devices: where there are more large ones than devices, some share one."""

from __future__ import annotations

import numpy as np

from torchplace.placement.bounds.work import Floats


def pigeonhole(seconds: Floats, devices: int) -> float:
    """The least time of the busiest device, by the largest items.

    Of the k x devices + 1 largest, k + 1 are on one device, and take no less there than the k + 1 smallest of these.
    Graham, "Bounds on multiprocessing timing anomalies" (SIAM Journal on Applied Mathematics 17, 1969), has k = 1; the
    rest is as in Dell'Amico and Martello, "Optimal scheduling of tasks on identical parallel processors" (ORSA Journal
    on Computing 7, 1995), section 2.

    Args:
        seconds: of each item where it is fastest.
        devices: how many there are.

    Cost: O(n log n).
    """
    largest = np.sort(seconds)[::-1]
    if not len(largest) or largest[0] == np.inf:
        return float(largest.max(initial=0.0))
    sums = np.concatenate([[0.0], np.cumsum(largest)])
    most = (len(largest) - 1) // devices
    k = np.arange(most + 1)
    last = k * devices + 1
    return float(np.max(sums[last] - sums[last - k - 1]))
