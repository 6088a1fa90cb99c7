"""Fits pieces of the alpha-beta model to measured transfer times: as few as explain them within their noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torchplace.errors import CostError
from torchplace.placement.topology.piece import Piece

FLOOR = 0.02
"""Relative error that a median may have in any case: machines drift."""
MAX_PIECES = 6
_LEAST_SLOPE = 1e-15  # seconds a byte: what does not depend on the size has a bandwidth, too
_HUBER = 3.0  # what is off by more of its standard errors counts linearly, not squared
_ROUNDS = 4  # of reweighting


def fit_pieces(samples: Mapping[int, Sequence[float]], *, floor: float = FLOOR) -> tuple[Piece, ...]:
    """The pieces of a link, from repeated measurements of transfers of some sizes.

    Segmented least squares (Bellman, "On the approximation of curves by line segments using dynamic programming", CACM
    4, 1961) of the errors of the medians, each relative to its median and in units of its noise, with Huber's weights
    so that no single size bends a line. The number of pieces is that with the least Bayesian information criterion
    (Schwarz, "Estimating the dimension of a model", Annals of Statistics 6, 1978). A piece stands on two sizes or more
    and begins where its line crosses the one before, if that is between the two sizes; else halfway between them, by
    ratio. Times never fall with the size.

    Cost: cubic in the number of sizes, some 30; a fraction of a second.

    Args:
        samples: bytes -> seconds of each transfer.
        floor: relative error below which no piece is spent.

    Returns:
        The pieces in ascending order; the first begins at 0 bytes.

    Raises:
        CostError: there is nothing to fit, or a time is no number above 0.
    """
    points = [_point(nbytes, seconds, floor) for nbytes, seconds in sorted(samples.items())]
    if not points:
        raise CostError("no transfer was measured: there is nothing to fit")
    lines = {(i, j): _line(points[i : j + 1], first=i == 0) for i, j in _segments(len(points))}
    found = _cheapest(points, lines)
    return tuple(_pieces(points, [(i, lines[i, j]) for i, j in found]))


class _Point(NamedTuple):
    """Median seconds of one size, and its standard error, relative."""

    nbytes: int
    seconds: float
    noise: float


@dataclass(frozen=True, slots=True)
class _Line:
    """Seconds of a transfer: latency (s) + nbytes * slope (s a byte); and how badly it fits its points."""

    latency: float
    slope: float
    cost: float = 0.0

    def at(self, nbytes: float) -> float:
        return self.latency + nbytes * self.slope


def _point(nbytes: int, seconds: Sequence[float], floor: float) -> _Point:
    if not seconds or not all(0 < s < math.inf for s in seconds):
        raise CostError(f"transfers of {nbytes} bytes took {list(seconds)[:4]}, expected seconds above 0")
    median = statistics.median(seconds)
    spread = 1.4826 * statistics.median(abs(s - median) for s in seconds)  # as a standard deviation
    return _Point(nbytes, median, max(floor, 1.2533 * spread / median / math.sqrt(len(seconds))))


def _segments(count: int) -> Iterator[tuple[int, int]]:
    """First and last index of each run of two points or more; of one where there is no more."""
    if count == 1:
        yield 0, 0
    for i in range(count):
        for j in range(i + 1, count):
            yield i, j


def _line(points: Sequence[_Point], first: bool) -> _Line:
    """The line that is nearest to some points; it never falls, and `first` it starts at 0 s or later."""
    trust = [1.0] * len(points)
    for _ in range(_ROUNDS):
        latency, slope = _least_squares(
            points, [t / (p.seconds * p.noise) ** 2 for t, p in zip(trust, points, strict=True)], first
        )
        off = [abs(latency + slope * p.nbytes - p.seconds) / (p.seconds * p.noise) for p in points]
        trust = [min(1.0, _HUBER / o) if o else 1.0 for o in off]
    return _Line(latency, slope, sum(o * o if o <= _HUBER else _HUBER * (2 * o - _HUBER) for o in off))


def _least_squares(points: Sequence[_Point], weights: Sequence[float], first: bool) -> tuple[float, float]:
    total = sum(weights)
    size = sum(w * p.nbytes for w, p in zip(weights, points, strict=True)) / total
    time = sum(w * p.seconds for w, p in zip(weights, points, strict=True)) / total
    spread = sum(w * (p.nbytes - size) ** 2 for w, p in zip(weights, points, strict=True))
    common = sum(w * (p.nbytes - size) * (p.seconds - time) for w, p in zip(weights, points, strict=True))
    slope = max(_LEAST_SLOPE, common / spread) if spread else _LEAST_SLOPE
    latency = time - slope * size
    if first and latency < 0:
        square = sum(w * p.nbytes**2 for w, p in zip(weights, points, strict=True))
        return 0.0, sum(w * p.nbytes * p.seconds for w, p in zip(weights, points, strict=True)) / square
    return latency, slope


_Run = tuple[int, int]


def _cheapest(points: Sequence[_Point], lines: Mapping[_Run, _Line]) -> list[_Run]:
    """The runs of points whose lines, one after the other, fit best for how many they are."""
    last, penalty = len(points) - 1, 3 * math.log(len(points))  # two numbers of a line, and where it begins
    layers = [{run: (line.cost, -1) for run, line in lines.items() if run[0] == 0}]
    while len(layers) < MAX_PIECES:
        layers.append(dict(_longer(points, lines, layers[-1])))
    ends = [
        (found[0] + penalty * k, k, run)
        for k, layer in enumerate(layers)
        for run, found in layer.items()
        if run[1] == last
    ]
    _, k, run = min(ends)
    chain = [run]
    while k:
        run = (layers[k][run][1], run[0] - 1)
        chain.append(run)
        k -= 1
    return chain[::-1]


def _longer(
    points: Sequence[_Point], lines: Mapping[_Run, _Line], before: Mapping[_Run, tuple[float, int]]
) -> Iterator[tuple[_Run, tuple[float, int]]]:
    """Each run that can stand behind others, with its best cost, and where the run before it begins."""
    ending: dict[int, list[tuple[float, int]]] = {}
    for (h, end), (cost, _) in before.items():
        ending.setdefault(end, []).append((cost, h))
    for (i, j), line in lines.items():
        fit = [(cost, h) for cost, h in ending.get(i - 1, ()) if _follows(points, lines[h, i - 1], line, i)]
        if fit:
            cost, h = min(fit)
            yield (i, j), (cost + line.cost, h)


def _follows(points: Sequence[_Point], one: _Line, other: _Line, i: int) -> bool:
    """Whether a line can follow another: it is not below it both at point i, where it begins, and at the one before."""
    return any(other.at(p.nbytes) >= one.at(p.nbytes) for p in points[i - 1 : i + 1])


def _pieces(points: Sequence[_Point], runs: Sequence[tuple[int, _Line]]) -> Iterator[Piece]:
    before: _Line | None = None
    for i, line in runs:
        start = 0 if before is None else _where(before, line, points[i - 1].nbytes, points[i].nbytes)
        yield Piece(start, max(line.latency, -start * line.slope), 1 / line.slope)
        before = line


def _where(one: _Line, other: _Line, low: int, high: int) -> int:
    """The size from which on the second line holds: where they cross, or else halfway between the two sizes."""
    if one.slope != other.slope:
        crossing = (one.latency - other.latency) / (other.slope - one.slope)
        if low < crossing <= high:
            return math.ceil(crossing)
    return math.ceil(math.sqrt(max(low, 1) * high))
