"""How times grow with sizes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log seconds over log sizes, by least squares; NaN where there are no two sizes."""
    if len(set(sizes)) < 2:
        return math.nan
    slope, _ = statistics.linear_regression([math.log(s) for s in sizes], [math.log(s) for s in seconds])
    return slope
