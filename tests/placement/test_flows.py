"""Rates of flows that share links, and when they end: computed by hand."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count, pairwise

import pytest

from torchplace.placement.flows import Flow, Flows, Wire, fair_rates
from torchplace.placement.topology import Link, both_ways
from torchplace.placement.topology.route import Route


class Clock:
    """Does what is asked for later."""

    def __init__(self) -> None:
        self.agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self.serial = count()

    def later(self, time: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self.agenda, (time, next(self.serial), what))

    def run(self) -> None:
        while self.agenda:
            time, _, what = heapq.heappop(self.agenda)
            what(time)


def uplink(kind: float = 12.0) -> dict[str, Link]:
    """Four devices on each of two switches, which one connection joins."""
    links = [k for i in range(8) for k in both_ways(f"d{i}", f"s{i // 4}", "wire", 12.0, 0.0)]
    return {link.name: link for link in (*links, *both_ways("s0", "s1", "wire", kind, 0.0))}


def across(links: dict[str, Link], source: int, target: int) -> Route:
    nodes = [f"d{source}", f"s{source // 4}", f"s{target // 4}", f"d{target}"]
    nodes = list(dict.fromkeys(nodes))
    return Route(tuple(links[f"{a}->{b}"] for a, b in pairwise(nodes)))


def ends(*flows: tuple[Route, float, float]) -> list[float]:
    """When flows end, each of which has a route, a start and bytes."""
    clock, found, made = Clock(), [0.0] * len(flows), list[Flow]()
    world = Flows(clock.later)

    def begin(n: int, route: Route, start: float, nbytes: float) -> None:
        def done(now: float) -> None:
            found[n] = now
            world.stop(now, made[n])

        made.append(world.flow(route, done))
        clock.later(start, lambda now: world.start(now, made[n], nbytes))

    for n, flow in enumerate(flows):
        begin(n, *flow)
    clock.run()
    return found


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        pytest.param([(0, 4, 0, 120)], [10.0], id="alone"),
        pytest.param([(0, 4, 0, 120), (1, 5, 0, 120)], [20.0, 20.0], id="two over one uplink"),
        pytest.param([(0, 4, 0, 120), (1, 5, 0, 60)], [15.0, 10.0], id="the shorter of two goes, the other speeds up"),
        # 12/3 = 4 each till 15, when 60 are gone; 6 each till 25, when 60 more are; the last 60 alone.
        pytest.param([(0, 4, 0, 60), (1, 5, 0, 120), (2, 6, 0, 180)], [15.0, 25.0, 30.0], id="three"),
        # 3 each till 20 (60); 4 till 35 (120); 6 till 45 (180); 12 till 50.
        pytest.param(
            [(0, 4, 0, 60), (1, 5, 0, 120), (2, 6, 0, 180), (3, 7, 0, 240)], [20.0, 35.0, 45.0, 50.0], id="four"
        ),
        pytest.param([(0, 4, 0, 120), (5, 1, 0, 120)], [10.0, 10.0], id="opposite directions do not meet"),
        # 12 till 5 (60 left); 6 each till 15; the second has 60 left and goes alone.
        pytest.param([(0, 4, 0, 120), (1, 5, 5, 120)], [15.0, 20.0], id="one comes later"),
        pytest.param([(0, 4, 0, 120), (1, 5, 10, 120)], [10.0, 20.0], id="one comes as the other goes"),
        # 12 till 2 (24); 6 each till 6 (48, 24); 4 each till 12 (72, 48, 24); then 12 are left of the third, alone.
        pytest.param([(0, 4, 0, 72), (1, 5, 2, 48), (2, 6, 6, 36)], [12.0, 12.0, 13.0], id="one after the other"),
        pytest.param([(0, 4, 0, 120), (1, 2, 0, 120)], [10.0, 10.0], id="within a switch, the uplink does not matter"),
        # Both leave d0: 6 each; the uplink is not what holds them.
        pytest.param([(0, 4, 0, 120), (0, 1, 0, 60)], [15.0, 10.0], id="they share where they begin"),
    ],
)
def test_one_uplink(flows: list[tuple[int, int, float, float]], expected: list[float]) -> None:
    links = uplink()
    found = ends(*((across(links, source, target), start, nbytes) for source, target, start, nbytes in flows))
    assert found == pytest.approx(expected, rel=1e-12)


def rates(capacities: dict[str, float], *routes: str) -> list[float]:
    """Rates of flows over links of one letter each."""
    wires = {name: Wire(capacity) for name, capacity in capacities.items()}
    flows = []
    for route in routes:
        flows.append(Flow(tuple((wires[name], route.count(name)) for name in dict.fromkeys(route)), lambda now: None))
        for wire, times in flows[-1].wires:
            wire.flows[flows[-1]] = times
    found = fair_rates(wire for wire in wires.values() if wire.flows)
    return [found[flow] for flow in flows]


def test_a_long_way_shares_with_all_that_it_meets() -> None:
    """A flow over three links in a row, and one over each: every link is halved."""
    assert rates({"a": 1.0, "b": 1.0, "c": 1.0}, "abc", "a", "b", "c") == [0.5] * 4


def test_what_a_slow_link_leaves_goes_to_the_others() -> None:
    """Two on the narrow link get 1 each, and leave 9 of the wide one to the third."""
    assert rates({"n": 2.0, "w": 10.0}, "n", "nw", "w") == [1.0, 1.0, 9.0]


def test_links_fill_up_one_after_the_other() -> None:
    """a: 3 flows, 2 each. b: 10 - 2 for two others, 4 each. c: 20 - 4 for one."""
    assert rates({"a": 6.0, "b": 10.0, "c": 20.0}, "a", "a", "ab", "b", "bc", "c") == [2.0, 2.0, 2.0, 4.0, 4.0, 16.0]


def test_a_link_that_is_crossed_twice_counts_twice() -> None:
    assert rates({"a": 9.0}, "aa", "a") == [3.0, 3.0]
    assert rates({"a": 9.0}, "aa") == [4.5]


def test_a_flow_alone_on_a_link_that_it_crosses_twice() -> None:
    up, down = both_ways("a", "b", "wire", 8.0, 0.0)
    assert ends((Route((up, down, up)), 0.0, 8.0)) == [2.0]


def test_only_what_meets_is_worked_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten flows of their own, and two that meet: the rates of two are worked out."""
    asked = []
    monkeypatch.setattr(
        "torchplace.placement.flows.fair_rates", lambda wires: asked.append(fair_rates(wires)) or asked[-1]
    )
    apart = [(Route((Link(f"a{i}", f"b{i}", "wire", 1.0, 0.0),)), 0.0, float(i)) for i in range(1, 11)]
    links = uplink()
    ends(*apart, (across(links, 0, 4), 0.0, 120.0), (across(links, 1, 5), 0.0, 60.0))
    assert [len(found) for found in asked] == [2, 1], "as they begin, and as one ends"


def test_flows_that_start_at_one_time_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "torchplace.placement.flows.fair_rates", lambda wires: asked.append(fair_rates(wires)) or asked[-1]
    )
    links = uplink()
    assert ends(*((across(links, i, i + 4), 0.0, 120.0) for i in range(4))) == [40.0] * 4
    assert [len(found) for found in asked if found] == [4]
