from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from torchplace.placement.coarse.bisection import Ties, bisected
from torchplace.placement.coarse.ideals import Floats


def by_number(ties: Ties, weights: Floats, share: float) -> Sequence[int]:
    """The first units, as long as they are within the share, and the rest."""
    return [int(total > share * weights.sum() + 1e-9) for total in weights.cumsum()]


def chain(count: int) -> list[dict[int, int]]:
    return [{other: 1 for other in (unit - 1, unit + 1) if 0 <= other < count} for unit in range(count)]


def test_parts_have_their_shares() -> None:
    assert bisected(chain(8), np.ones(8), [0.25] * 4, by_number) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert bisected(chain(8), np.ones(8), [0.5, 0.125, 0.375], by_number) == [0, 0, 0, 0, 1, 2, 2, 2]


def test_only_ties_among_the_units_are_told() -> None:
    seen: list[list[dict[int, int]]] = []

    def spy(ties: Ties, weights: Floats, share: float) -> Sequence[int]:
        seen.append([dict(near) for near in ties])
        return by_number(ties, weights, share)

    bisected(chain(4), np.ones(4), [0.25] * 4, spy)
    assert seen == [[{1: 1}, {0: 1, 2: 1}, {1: 1, 3: 1}, {2: 1}], [{1: 1}, {0: 1}], [{1: 1}, {0: 1}]]


def test_sides_of_equal_share_come_in_order() -> None:
    assert bisected(chain(4), np.ones(4), [0.5, 0.5], lambda *_: [1, 1, 0, 0]) == [0, 0, 1, 1]
    assert bisected(chain(4), np.ones(4), [0.6, 0.4], lambda *_: [1, 1, 0, 0]) == [1, 1, 0, 0]


def test_no_half_of_the_devices_is_left_without_a_unit() -> None:
    assert bisected(chain(3), np.array([1.0, 5.0, 1.0]), [0.7, 0.3], lambda ties, *_: [0] * len(ties)) == [1, 0, 1]
    assert bisected(chain(3), np.array([1.0, 5.0, 1.0]), [0.3, 0.7], lambda ties, *_: [0] * len(ties)) == [0, 1, 0]


@given(st.lists(st.sampled_from([0.0, 1.0, 9.0]), max_size=9), st.integers(1, 6))
def test_every_unit_is_in_a_part(weights: list[float], count: int) -> None:
    parts = bisected(chain(len(weights)), np.array(weights), [1 / count] * count, by_number)
    assert len(parts) == len(weights)
    assert set(parts) <= set(range(count))
    assert len(set(parts)) >= min(2, len(weights), count)
