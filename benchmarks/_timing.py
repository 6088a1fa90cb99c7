"""Timing side by side: this machine drifts, so what is compared is measured in turn, and medians are kept."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from time import perf_counter


def interleaved(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 2,
    before: Callable[[str], object] = lambda name: None,
) -> dict[str, list[float]]:
    """Seconds of each piece of work, measured in turn for a number of rounds.

    Args:
        work: by name.
        rounds: that count.
        warmup: rounds that do not.
        before: is called with a name before its work is timed.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for i in range(warmup + rounds):
        for name, run in work.items():
            if i >= warmup:
                before(name)
            start = perf_counter()
            run()
            if i >= warmup:
                times[name].append(perf_counter() - start)
    return times


def median(times: list[float]) -> float:
    """The median."""
    return statistics.median(times)


def paired_ratio(times: Mapping[str, list[float]], name: str, reference: str) -> float:
    """Median of the round-by-round ratios: what the drift of the machine touches least."""
    return statistics.median(a / b for a, b in zip(times[name], times[reference], strict=True))
