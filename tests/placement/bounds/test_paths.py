from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.bounds.paths import Before, heads, heads_with_transfers, tails

FORK: Before = [[], [(0, 5.0)], [(0, 5.0)], [(1, 5.0), (2, 5.0)]]
"""An op, two that take from it, one that takes from both; 5 s for every transfer."""


def test_a_join_waits_for_both_branches_where_a_transfer_takes_longer() -> None:
    assert heads(FORK, [1.0, 2.0, 3.0, 1.0]) == [0.0, 1.0, 1.0, 4.0]
    assert heads_with_transfers(FORK, [1.0, 2.0, 3.0, 1.0]) == [0.0, 1.0, 1.0, 6.0], "all on one device"


def test_a_join_waits_for_a_transfer_where_a_branch_takes_longer() -> None:
    assert heads_with_transfers(FORK, [1.0, 7.0, 8.0, 1.0])[3] == 13.0, "the second ends at 8, and is here at 13"
    assert heads_with_transfers(FORK, [1.0, 9.0, 20.0, 1.0])[3] == 21.0, "there is time for it to come from elsewhere"


def test_what_hands_on_to_what_must_be_near_must_be_near_too() -> None:
    """Two branches of two ops each: the first of the short one cannot be elsewhere either."""
    before: Before = [[], [(0, 2.0)], [(1, 2.0)], [(0, 2.0)], [(3, 2.0)], [(2, 2.0), (4, 2.0)]]
    assert heads_with_transfers(before, [1.0] * 6) == [0.0, 1.0, 2.0, 1.0, 2.0, 5.0]


def test_from_the_end_a_fork_is_a_join() -> None:
    assert tails(heads, FORK, [1.0, 2.0, 3.0, 1.0]) == [4.0, 1.0, 1.0, 0.0]
    assert tails(heads_with_transfers, FORK, [1.0, 2.0, 3.0, 1.0]) == [6.0, 1.0, 1.0, 0.0]


@st.composite
def orders(draw: st.DrawFn) -> tuple[Before, list[float]]:
    count = draw(st.integers(1, 7))
    before = [
        [(j, draw(st.sampled_from([0.0, 0.5, 1.0, 4.0]))) for j in range(i) if draw(st.integers(0, 2)) == 0]
        for i in range(count)
    ]
    return before, draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=count, max_size=count))


def earliest(before: Before, seconds: list[float], op: int) -> float:
    """The earliest start of an op over all placements on as many devices as there are ops, and all orders."""
    return min(
        _start(before, seconds, op, where, order)
        for where in _partitions(op + 1)
        for order in itertools.permutations(range(op + 1))
        if all(order.index(j) < order.index(i) for i in range(op + 1) for j, _ in before[i])
    )


def _partitions(count: int) -> list[list[int]]:
    found = [[0]]
    for _ in range(count - 1):
        found = [[*where, device] for where in found for device in range(max(where) + 2)]
    return found


def _start(before: Before, seconds: list[float], op: int, where: list[int], order: tuple[int, ...]) -> float:
    free, ends = dict[int, float](), dict[int, float]()
    start = 0.0
    for i in order:
        come = [ends[j] + (delay if where[j] != where[i] else 0.0) for j, delay in before[i]]
        start = max([free.get(where[i], 0.0), *come])
        ends[i] = free[where[i]] = start + seconds[i]
        if i == op:
            return start
    return start


@given(orders())
def test_no_schedule_starts_an_op_earlier(case: tuple[Before, list[float]]) -> None:
    before, seconds = case
    last = min(len(seconds), 5) - 1
    found = heads_with_transfers(before, seconds)
    assert all(a <= b for a, b in zip(heads(before, seconds), found, strict=True))
    assert found[last] <= earliest(before, seconds, last) + 1e-9


@given(orders())
def test_without_transfers_both_are_the_longest_path(case: tuple[Before, list[float]]) -> None:
    before = [[(op, 0.0) for op, _ in ops] for ops in case[0]]
    assert heads_with_transfers(before, case[1]) == pytest.approx(heads(before, case[1]))


@given(orders())
def test_the_longest_way_is_as_long_from_either_end(case: tuple[Before, list[float]]) -> None:
    before, seconds = case
    early, late = heads(before, seconds), tails(heads, before, seconds)
    ends = [a + b for a, b in zip(early, seconds, strict=True)]
    begins = [a + b for a, b in zip(late, seconds, strict=True)]
    assert max(ends) == pytest.approx(max(begins))
