from __future__ import annotations

import itertools
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torchplace.placement.bounds.assignment as assignment
from torchplace.placement.bounds.assignment import Prices, chained_prices, even_prices, solved_prices
from torchplace.placement.bounds.fleet import Fleet


def fleet(
    times: list[list[float]], numbers: list[int], memory: list[float] | None = None, held: list[float] | None = None
) -> Fleet:
    several = np.array(numbers, dtype=float)
    room = np.array(memory or [1e9] * len(numbers), dtype=float)
    rows = np.array([held or [0.0] * len(times[0])], dtype=float)
    return Fleet(np.array(times, dtype=float), several, several, room, rows)


def solved(of: Fleet) -> float:
    return solved_prices(of).bound(of)


def test_a_device_twice_as_fast_does_twice_as_much() -> None:
    twice = fleet([[2.0] * 9, [4.0] * 9], [1, 1])
    assert solved(twice) == pytest.approx(12.0)
    assert even_prices(twice).bound(twice) == pytest.approx(12.0)


def test_each_does_what_it_is_good_at() -> None:
    apart = fleet([[1.0, 1.0, 6.0, 6.0], [6.0, 6.0, 1.0, 1.0]], [1, 1])
    assert solved(apart) == pytest.approx(2.0)


def test_what_the_fast_device_has_no_room_for_the_slow_one_does() -> None:
    full = fleet([[1.0] * 4, [10.0] * 4], [1, 1], memory=[100, 1000], held=[50.0] * 4)
    assert solved(full) == pytest.approx(20.0, rel=1e-6), "two of the four"


def test_a_chain_runs_one_after_the_other_on_however_many_devices() -> None:
    many = fleet([[1.0] * 4, [10.0] * 4], [1, 9], memory=[100, 1000], held=[50.0] * 4)
    *_, (prices, chains) = chained_prices(many, lambda dealt: many.times)
    assert chains
    assert prices.bound(many, chains) == pytest.approx(22.0, rel=1e-6), "two on the fast one, two on a slow one"
    assert solved(many) < 5.0


def test_what_can_be_nowhere_takes_for_ever() -> None:
    assert even_prices(one := fleet([[inf, 1.0]], [2])).bound(one) == inf


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    sorts, items = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    seconds = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, inf])
    times = [draw(st.lists(seconds, min_size=items, max_size=items)) for _ in range(sorts)]
    numbers = draw(st.lists(st.integers(1, 2), min_size=sorts, max_size=sorts))
    memory = draw(st.lists(st.sampled_from([10.0, 20.0, 1e9]), min_size=sorts, max_size=sorts))
    held = draw(st.lists(st.sampled_from([0.0, 4.0, 9.0]), min_size=items, max_size=items))
    return fleet(times, numbers, memory, held)


def optimum(of: Fleet, chain: list[int]) -> float:
    """The least largest load, and time of a chain, over all ways to put whole items on devices."""
    devices = [s for s, number in enumerate(of.numbers.astype(int)) for _ in range(number)]
    best = inf
    for where in itertools.product(range(len(devices)), repeat=of.times.shape[1]):
        seconds = [of.times[devices[d], i] for i, d in enumerate(where)]
        loads = [sum(s for s, w in zip(seconds, where, strict=True) if w == d) for d in range(len(devices))]
        held = [sum(of.held[0, i] for i, w in enumerate(where) if w == d) for d in range(len(devices))]
        if all(h <= of.memory[devices[d]] for d, h in enumerate(held)):
            best = min(best, max([*loads, sum(seconds[i] for i in chain)]))
    return best


@settings(max_examples=50)
@given(fleets(), st.data())
def test_no_way_to_put_whole_items_on_devices_beats_it(of: Fleet, data: st.DataObject) -> None:
    """By the best prices, by even ones, and by any at all."""
    items = of.times.shape[1]
    best = optimum(of, [])
    number = st.sampled_from([0.0, 0.1, 1.0, 3.0])
    sorts = len(of.times)
    chosen = Prices(
        np.array([data.draw(number) for _ in range(sorts)]),
        np.zeros(0),
        np.array([[data.draw(number) for _ in range(sorts)]]),
    )
    for prices in (solved_prices(of), even_prices(of), chosen):
        assert prices.bound(of) <= best * (1 + 1e-9)
    chain = [i for i in range(items) if data.draw(st.booleans())]
    on_chain = np.where(np.isin(np.arange(items), chain), of.times, 0.0)
    best = optimum(of, chain)
    assert all(p.bound(of, chains) <= best * (1 + 1e-9) for p, chains in chained_prices(of, lambda dealt: on_chain))


@settings(max_examples=50)
@given(fleets())
def test_items_taken_as_one_still_make_a_bound(of: Fleet) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "_WHOLE", 0)
        rough = solved(of)
    assert rough <= optimum(of, []) * (1 + 1e-9)


def test_of_very_many_items_prices_are_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "_LARGEST", 1)
    of = fleet([[1.0, 1.0, 6.0, 6.0], [6.0, 6.0, 1.0, 1.0]], [1, 1])
    assert solved(of) == even_prices(of).bound(of)
