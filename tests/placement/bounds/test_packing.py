from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.bounds.packing import pigeonhole


@pytest.mark.parametrize(
    ("seconds", "devices", "least"),
    [([3, 3, 3], 2, 6), ([5, 4, 3, 3, 3], 2, 9), ([9, 1, 1], 2, 9), ([2, 2, 1, 1], 3, 2), ([], 2, 0), ([4], 3, 4)],
)
def test_by_hand(seconds: list[float], devices: int, least: float) -> None:
    assert pigeonhole(np.array(seconds, dtype=float), devices) == least


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5, 7.0]), max_size=6), st.integers(1, 3))
def test_no_packing_beats_it(seconds: list[float], devices: int) -> None:
    every = itertools.product(range(devices), repeat=len(seconds))
    best = min(max(np.bincount(where, seconds, devices)) if seconds else 0.0 for where in map(list, every))
    assert pigeonhole(np.array(seconds), devices) <= best + 1e-12
