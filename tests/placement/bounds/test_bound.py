from __future__ import annotations

from torchplace.placement.bounds.bound import Bound, strongest, total, weakest

ONE, TWO = Bound(1.0, "path"), Bound(2.0, "work")


def test_of_bounds_that_all_hold_the_largest_counts() -> None:
    assert strongest([ONE, TWO, Bound(2.0 + 1e-12, "a hair more")]) == TWO
    assert strongest([]) == strongest([Bound(0.0, "path")]) == Bound(0.0, "")


def test_of_bounds_one_of_which_holds_the_smallest_counts() -> None:
    assert weakest([TWO, ONE, Bound(1.0, "later")]) == ONE
    assert weakest([]) == Bound(0.0, "")


def test_what_is_done_one_after_the_other_adds_up() -> None:
    assert total([ONE, TWO]) == Bound(3.0, "path, work")
    assert total([ONE, ONE]) == Bound(2.0, "path")
    assert total([Bound(0.0), ONE]) == ONE
