from __future__ import annotations

import numpy as np

from tests.placement.graphs import machine
from torchplace.placement.bounds.together import Handing
from torchplace.placement.bounds.wires import Wires
from torchplace.placement.bounds.work import Flow

WIRES = Wires(machine([1, 1, 1], bandwidth=10.0))


def joined(flows: list[Flow], count: int, seconds: float) -> list[list[int]]:
    number = Handing(flows, count).joined(WIRES, seconds)
    return [np.flatnonzero(number == n).tolist() for n in np.unique(number)]


def test_who_hands_on_more_than_a_link_carries_is_together_with_who_takes_it() -> None:
    flows = [Flow(0, (1, 2), 30), Flow(1, (3,), 10)]
    assert joined(flows, 4, 3.0) == [[0], [1], [2], [3]], "3 s for 30 bytes"
    assert joined(flows, 4, 2.0) == [[0, 1, 2], [3]]
    assert joined(flows, 4, 0.5) == [[0, 1, 2, 3]]


def test_what_two_hand_to_each_other_adds_up_in_each_direction() -> None:
    flows = [Flow(0, (1,), 15), Flow(0, (1,), 15), Flow(1, (0,), 15)]
    assert joined(flows, 2, 3.0) == [[0], [1]]
    assert joined(flows, 2, 2.9) == [[0, 1]]
    assert joined([flows[0], flows[2]], 2, 2.9) == [[0], [1]]


def test_what_has_become_one_takes_a_value_once_and_hands_on_more() -> None:
    tied = Flow(1, (2,), 100)
    assert joined([tied, Flow(0, (1, 2), 30)], 3, 3.0) == [[0], [1, 2]], "a value goes once to a device"
    assert joined([tied, Flow(0, (1,), 20), Flow(0, (2,), 20)], 3, 3.0) == [[0, 1, 2]]


def test_nothing_is_handed_on() -> None:
    assert joined([], 2, 0.0) == [[0], [1]]
