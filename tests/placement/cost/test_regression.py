"""Regressions: what a law made is found again, and the error of a fit is that of what was left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.cost.regression import Array, fit, nonnegative, relative, stack


def test_nothing_negative_is_fitted() -> None:
    matrix = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    assert nonnegative(matrix, np.array([3.0, 2.0, 1.0])) == pytest.approx([2.0, 0.0])
    assert nonnegative(matrix, np.array([1.0, 3.0, 5.0])) == pytest.approx([1.0, 2.0])
    assert nonnegative(np.zeros((3, 2)), np.ones(3)) == pytest.approx([0.0, 0.0])


def samples(alpha: float, beta: float, count: int = 40, noise: float = 0.0) -> tuple[Array, Array, Array]:
    """Seconds = alpha + beta * size, for sizes over six decades."""
    random = np.random.default_rng(0)
    sizes = np.exp(random.uniform(0, 14, count))
    seconds = (alpha + beta * sizes) * np.exp(noise * random.standard_normal(count))
    return np.stack([np.ones(count), sizes], 1), np.log2(sizes)[:, None], seconds


@given(st.floats(1e-7, 1e-4), st.floats(1e-11, 1e-8))
def test_a_line_is_found_again(alpha: float, beta: float) -> None:
    terms, places, seconds = samples(alpha, beta)
    found = fit(terms, places, seconds)
    assert found.error < 0.01
    assert found.predict(terms, places) == pytest.approx(seconds, rel=0.02)
    # Beyond all samples, too.
    far = stack([[1.0, 1e9]])
    assert found.predict(far, np.log2(far[:, 1:])) == pytest.approx([alpha + beta * 1e9], rel=0.05)


def test_what_no_line_explains_is_interpolated() -> None:
    """Work runs at half of the speed between 2^8 and 2^12."""
    terms, places, seconds = samples(1e-6, 1e-9, count=200)
    slow = (places[:, 0] > 8) & (places[:, 0] < 12)
    seconds = np.where(slow, 2 * seconds, seconds)
    found = fit(terms, places, seconds)
    assert found.weights.any()
    assert relative(np.log(seconds / found.predict(terms, places))).mean() < 0.1
    line = terms @ nonnegative(terms / seconds[:, None], np.ones(200))
    assert found.error < 0.5 * np.average(relative(np.log(seconds / line)), weights=seconds)


def test_the_error_is_that_of_new_samples_not_of_the_old() -> None:
    """Times that are nothing but noise of 30%: nobody can predict them better, and the fit must not promise it."""
    terms, places, seconds = samples(1e-6, 1e-9, count=100, noise=0.3)
    assert fit(terms, places, seconds).error > 0.15


def test_one_sample_is_enough_to_say_something() -> None:
    found = fit(stack([[1.0, 8.0]]), stack([[3.0]]), np.array([1e-3]))
    assert found.predict(stack([[1.0, 8.0]]), stack([[3.0]])) == pytest.approx([1e-3])
