"""Regressions for op times: they are right in proportion, for sizes and times span six decades.

Two parts. A line with coefficients of 0 or more, fitted by least squares of the relative error, so that more work never
takes less time and large ops are extrapolated sensibly. And where that helps, what the samples near by took beyond the
line, in proportion, interpolated (kriging). Whether and how far around it helps is decided by leaving out each sample
in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

RANGES: tuple[float, ...] = (2.0, 4.0, 8.0, 16.0)
"""Distances, in doublings of a feature, over which samples are alike: one of them is chosen by its error."""

NUGGETS: tuple[float, ...] = (0.05, 0.3)
"""Shares of the variance that are noise of the measurement."""

MOST = 400
"""Samples that are interpolated between; of more, evenly spread ones are taken: solving costs their number cubed."""


def nonnegative(matrix: Array, values: Array) -> Array:
    """The x >= 0 for which |matrix @ x - values| is least, by `scipy.optimize.nnls`; columns are scaled first.

    Args:
        matrix: [rows, columns].
        values: [rows].

    Returns:
        [columns].
    """
    lengths = np.linalg.norm(matrix, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    found, _ = nnls(matrix / lengths, values, maxiter=30 * matrix.shape[1])
    return np.asarray(found / lengths)


@dataclass(frozen=True)
class Regression:
    """Seconds from features.

    Attributes:
        coefficients: [terms], of the line; 0 or more.
        places: [samples, coordinates] that are interpolated between.
        weights: [samples], of the interpolation; all 0 where the line alone is better.
        reach: distance over which samples are alike.
        bias: logarithm of the factor by which samples exceed the line in the middle.
        floor: seconds that no op falls below.
        residuals: [samples]: log (measured / predicted) of each sample when it is left out.
        seconds: [samples], as measured.
    """

    coefficients: Array
    places: Array
    weights: Array
    reach: float
    bias: float
    floor: float
    residuals: Array
    seconds: Array

    @property
    def error(self) -> float:
        """Mean of |predicted / measured - 1| over samples that were left out, weighted by their time."""
        return float(np.average(relative(self.residuals), weights=self.seconds))

    def predict(self, terms: Array, places: Array) -> Array:
        """Seconds for [ops, terms] and [ops, coordinates]: [ops]."""
        line = np.maximum(terms @ self.coefficients, self.floor)
        beyond = _kernel(places, self.places, self.reach) @ self.weights if self.weights.any() else 0.0
        return np.asarray(line * np.exp(self.bias + beyond))


def relative(residuals: Array) -> Array:
    """|predicted / measured - 1| of log (measured / predicted)."""
    return np.abs(np.expm1(np.clip(-residuals, -5.0, 5.0)))


def fit(terms: Array, places: Array, seconds: Array) -> Regression:
    """Fit a regression to samples.

    Args:
        terms: [samples, terms], 0 or more: seconds are a sum of them.
        places: [samples, coordinates], in doublings: how alike samples are.
        seconds: [samples], above 0.
    """
    coefficients = nonnegative(terms / seconds[:, None], np.ones(len(seconds)))
    floor = float(seconds.min()) / 2
    beyond = np.log(seconds / np.maximum(terms @ coefficients, floor))
    bias = float(np.median(beyond))
    chosen = np.unique(np.linspace(0, len(seconds) - 1, min(len(seconds), MOST)).astype(int))
    chosen = np.argsort(seconds, kind="stable")[chosen]
    weights, reach, residuals = _interpolation(places[chosen], (beyond - bias)[chosen])
    return Regression(coefficients, places[chosen], weights, reach, bias, floor, residuals, seconds[chosen])


def _interpolation(places: Array, beyond: Array) -> tuple[Array, float, Array]:
    """Weights of the samples, how far they reach, and what is left of each when it is left out.

    Leaving one out needs no second fit: Dubrule, "Cross validation of kriging in a unique neighborhood"
    (Mathematical Geology 15, 1983).
    """
    best = np.zeros(len(beyond)), 1.0, beyond
    if len(beyond) < 3:
        return best
    distances = cdist(places, places)
    for reach in RANGES:
        for nugget in NUGGETS:
            inverse = np.linalg.inv(np.exp(-distances / reach) + nugget * np.eye(len(beyond)))
            weights = inverse @ beyond
            left = weights / np.diag(inverse)
            if relative(left).mean() < relative(best[2]).mean():
                best = weights, reach, left
    return best


def _kernel(one: Array, other: Array, reach: float) -> Array:
    return np.asarray(np.exp(-cdist(one, other) / reach))


def stack(rows: Sequence[Sequence[float]]) -> Array:
    """[rows, columns] of numbers."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), -1)
