"""Flows against another way to share links, on joins and leaves that nobody thought of."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.placement.oracle import Moving, level
from tests.placement.test_flows import Clock
from torchplace.placement.flows import Flow, Flows, Wire
from torchplace.placement.topology import Link

SPEEDS = (1.0, 2.0, 3.0, 5.0, 7.0, 11.0)

routes = st.lists(st.integers(0, 5), min_size=1, max_size=4)
"""Numbers of links; nothing says that they hang together, and one may be crossed twice."""

joins = st.tuples(st.just(False), routes, st.just(0))
leaves = st.tuples(st.just(True), st.just([0]), st.integers(0, 99))
steps = st.lists(st.one_of(joins, joins, leaves), min_size=8, max_size=40)


class World:
    """Flows over links of some speeds (bytes/s), which join and leave; all of them go on for ever."""

    def __init__(self, speeds: list[float]) -> None:
        self.clock = Clock()
        self.links = [Link(f"a{i}", f"b{i}", "wire", speed, 0.0) for i, speed in enumerate(speeds)]
        self.wires = [Wire(speed) for speed in speeds]
        self.flows = Flows(lambda time, what: self.clock.later(time, what) if time < 1e9 else None)
        self.under_way: dict[Flow, Counter[Link]] = {}

    def join(self, route: list[int], now: float) -> None:
        crossed = Counter(route)
        flow = Flow(tuple((self.wires[i], times) for i, times in crossed.items()), lambda now: None)
        self.under_way[flow] = Counter(self.links[i] for i in route)
        self.flows.start(now, flow, 1e18)

    def leave(self, which: int, now: float) -> None:
        if self.under_way:
            flow = list(self.under_way)[which % len(self.under_way)]
            del self.under_way[flow]
            self.flows.stop(now, flow)

    def check(self) -> None:
        """The rates are those that progressive filling of all links from nothing gives, and no link has too many."""
        self.clock.run()
        moving = {flow: Moving(Fraction(1), lambda: None, way) for flow, way in self.under_way.items()}
        expected = level(list(moving.values()))
        for flow, what in moving.items():
            assert flow.rate == pytest.approx(float(expected[what]), rel=1e-9)
        for link in self.links:
            load = sum(flow.rate * way[link] for flow, way in self.under_way.items())
            assert load <= link.bandwidth * (1 + 1e-9)


@settings(max_examples=150)
@given(st.lists(st.sampled_from(SPEEDS), min_size=6, max_size=6), steps, st.integers(1, 3))
def test_rates_are_those_of_all_links_filled_anew(speeds: list[float], moves: list[tuple], at_once: int) -> None:
    """Some joins and leaves happen at the same time."""
    world = World(speeds)
    for n, (leaving, route, which) in enumerate(moves):
        now = float(n // at_once)
        if leaving:
            world.leave(which, now)
        else:
            world.join(route, now)
        if (n + 1) % at_once == 0:
            world.check()
    world.check()


def test_a_change_far_away_moves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 flows in a row, each shares a link with the next; the links have 1, 4, 9... bytes/s.

    Flows 0 and 1 get a half each of the first; what they leave of the second goes to 2, and so on: all but the first
    are held by the link that they share with the one before.
    """
    import torchplace.placement.flows as module

    asked: list[int] = []
    real = module.fair_rates

    def counted(changed: object) -> dict[Flow, float]:
        found = real(changed)  # type: ignore[arg-type]
        asked.append(len(found))
        return found

    world = World([float((i + 1) ** 2) for i in range(20)])
    for i in range(20):
        world.join([i - 1, i] if i else [0], 0.0)
    world.check()
    monkeypatch.setattr(module, "fair_rates", counted)
    world.leave(19, 1.0)
    world.check()
    assert asked == [0], "link 18, which it shared with flow 18, did not hold that"
    world.leave(0, 2.0)
    world.check()
    assert asked[1:] == [18], "who leaves at the narrow end moves all others"
