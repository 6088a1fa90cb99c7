from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.bounds.intervals import interval_work


def test_what_is_between_a_head_and_a_tail_shares_the_devices() -> None:
    """An op of 1 s, then four of 2 s on two devices, then one of 3 s: 1 + 4 + 3."""
    heads, tails = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 3.0]), np.array([5.0, 3.0, 3.0, 3.0, 3.0, 0.0])
    assert interval_work(heads, np.array([0.5, 1.0, 1.0, 1.0, 1.0, 1.5]), tails) == 8.0


def test_no_ops_take_no_time() -> None:
    assert interval_work(np.zeros(0), np.zeros(0), np.zeros(0)) == 0.0


@given(st.lists(st.tuples(*[st.floats(0, 100)] * 3), min_size=1, max_size=200))
def test_it_is_the_best_of_pairs_of_moments(ops: list[tuple[float, float, float]]) -> None:
    """None that is sampled is above what a look at every pair says; all are looked at where they are few."""
    heads, share, tails = map(np.array, zip(*ops, strict=True))
    every = max(
        a + b + share[(heads >= a) & (tails >= b)].sum()
        for a in heads
        for b in tails
        if share[(heads >= a) & (tails >= b)].sum() > 0
    ) if share.sum() > 0 else 0.0  # fmt: skip
    found = interval_work(heads, share, tails)
    assert found <= every * (1 + 1e-9)
    if len(ops) <= 64:
        assert found >= every * (1 - 1e-9)
    assert found >= share.sum() * (1 - 1e-9)
