from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.placement.maxload.instances import instances
from torchplace.placement.maxload.check import faults, is_contiguous, max_load
from torchplace.placement.maxload.contiguous import best_split, interval_loads
from torchplace.placement.maxload.instance import Instance
from torchplace.placement.maxload.orders import Units


@given(instances())
def test_the_loads_of_intervals(instance: Instance) -> None:
    """Of every interval on each kind of device, with all else on another device."""
    problem = instance.problem
    order = Units(problem).order(range(problem.count))
    found = interval_loads(problem, order)
    first = np.cumsum([0, *(kind.number for kind in problem.kinds)])
    for k, kind in enumerate(problem.kinds):
        others = [d for d in range(len(problem.devices)) if d != first[k]]
        for i, j in itertools.combinations_with_replacement(range(len(order) + 1), 2):
            if not kind.number or not others:
                continue
            placed = np.full(problem.count, others[0])
            for unit in order[i:j]:
                placed[list(unit)] = first[k]
            if problem.size[placed == first[k]].sum() > kind.capacity:
                assert found[k, i, j] == float("inf")
            else:
                assert found[k, i, j] == pytest.approx(problem.loads(placed)[first[k]])


@given(instances(), st.randoms(use_true_random=False))
def test_the_best_split_of_an_order(instance: Instance, chance: Random) -> None:
    problem = instance.problem
    units = Units(problem)
    order = units.order([chance.random() for _ in units.members])
    assert sorted(item for unit in order for item in unit) == list(range(problem.count))
    load, placed = best_split(problem, order)
    assert load == pytest.approx(_least(instance, order))
    if np.isfinite(load):
        split = instance.split(placed)
        assert not list(faults(instance, split))
        assert max_load(instance, split) == pytest.approx(load)
        assert is_contiguous(instance, split)


def _least(instance: Instance, order: list[tuple[int, ...]]) -> float:
    """Over every way to give intervals to the devices, in every order of the devices."""
    problem, least = instance.problem, float("inf")
    number = len(problem.devices)
    for ends in itertools.combinations_with_replacement(range(len(order) + 1), number - 1):
        cuts = [0, *ends, len(order)]
        for devices in itertools.permutations(range(number)):
            placed = np.zeros(problem.count, dtype=np.int64)
            for device, (i, j) in zip(devices, itertools.pairwise(cuts), strict=True):
                for unit in order[i:j]:
                    placed[list(unit)] = device
            least = min(least, problem.max_load(placed))
    return least
