"""All-reduce in a ring, computed by hand."""

from __future__ import annotations

import pytest

from tests.placement.test_flows import Clock
from torchplace.placement.collective import Ring
from torchplace.placement.flows import Flows
from torchplace.placement.topology import Link, Topology, both_ways
from torchplace.placement.topology.presets.big_sur import big_sur
from torchplace.placement.topology.route import Route

GPU = 2 * 5.7e-6 / 2
"""Seconds of latency to leave one GPU and to reach another."""


def all_reduce(topology: Topology, order: str, nbytes: float) -> float:
    """Seconds of an all-reduce over GPUs in an order."""
    clock, ends = Clock(), list[float]()
    group = [f"gpu:{i}" for i in order]
    routes = [topology.route(a, b) for a, b in zip(group, [*group[1:], group[0]], strict=True)]
    ring = Ring(routes, Flows(clock.later), clock.later)
    clock.later(1.0, lambda now: ring.all_reduce(now, nbytes, ends.append))
    clock.run()
    [end] = ends
    return end - 1.0


# In order, one transfer crosses from switch to switch each way: it has the narrowest link of its way to itself, 12 GB/s
# (6 GB/s over QPI), and the longest latency. 14 steps of an eighth each.
IN_ORDER = {
    "single-root": (12e9, GPU + 2 * 150e-9),
    "dual-root": (6e9, GPU + 2 * 150e-9 + 58e-9),
    "cascaded": (12e9, GPU + 150e-9),
}


@pytest.mark.parametrize("layout", IN_ORDER)
@pytest.mark.parametrize("nbytes", [0, 1, 100e6])
def test_a_ring_on_big_sur(layout: str, nbytes: float) -> None:
    bandwidth, latency = IN_ORDER[layout]
    expected = 14 * (nbytes / 8 / bandwidth + latency)
    assert all_reduce(big_sur(layout), "01234567", nbytes) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("layout", IN_ORDER)
def test_a_ring_on_big_sur_that_goes_to_and_fro(layout: str) -> None:
    """From switch to switch with every hop: four share the way there, and four the way back."""
    bandwidth, latency = IN_ORDER[layout]
    expected = 14 * (4 * 100e6 / 8 / bandwidth + latency)
    assert all_reduce(big_sur(layout), "04152637", 100e6) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("layout", IN_ORDER)
def test_a_ring_on_big_sur_with_two_crossings_each_way(layout: str) -> None:
    """There with 0 -> 4 and 1 -> 5, back with 4 -> 1 and 7 -> 2."""
    bandwidth, latency = IN_ORDER[layout]
    expected = 14 * (2 * 100e6 / 8 / bandwidth + latency)
    assert all_reduce(big_sur(layout), "04156723", 100e6) == pytest.approx(expected, rel=1e-9)


def test_what_has_ended_leaves_its_share_to_the_others() -> None:
    """Two of three hops share a link of 2 bytes/s; one of them has a link of 0.5 bytes/s on its way.

    A step of 4 bytes each: 0.5 and 1.5 bytes/s; the step takes 8 s and 3 s of latency, and there are four.
    """
    shared, slow = Link("a", "b", "wire", 2.0, 1.0), Link("b", "c", "wire", 0.5, 2.0)
    own = Link("d", "e", "wire", 100.0, 0.0)
    clock, ends = Clock(), list[float]()
    ring = Ring([Route((shared, slow)), Route((shared,)), Route((own,))], Flows(clock.later), clock.later)
    ring.all_reduce(0.0, 12.0, ends.append)
    clock.run()
    assert ends == [4 * (8.0 + 3.0)]


def test_one_after_the_other() -> None:
    there, back = both_ways("a", "b", "wire", 1.0, 0.5)
    clock, ends = Clock(), list[float]()
    ring = Ring([Route((there,)), Route((back,))], Flows(clock.later), clock.later)

    def again(now: float) -> None:
        ends.append(now)
        if len(ends) < 3:
            ring.all_reduce(now, 4.0 * len(ends), again)

    ring.all_reduce(0.0, 4.0, again)
    clock.run()
    assert ends == [5.0, 10.0, 19.0]


def test_a_ring_of_one_has_nothing_to_do() -> None:
    clock, ends = Clock(), list[float]()
    Ring([Route(())], Flows(clock.later), clock.later).all_reduce(3.0, 100.0, ends.append)
    clock.run()
    assert ends == [3.0]


@pytest.mark.parametrize("start", [0.0, 1.0, 2.5, 4.0, 4.25])
def test_company_slows_the_steps_that_it_meets(start: float) -> None:
    """Two devices reduce 4 bytes, in two steps of 2 s and 0.5 s; one byte comes along one way, sharing for 2 s.

    It takes 1 s of the link in all, and delays the step whose transfer it meets by as much.
    """
    there, back = both_ways("a", "b", "wire", 1.0, 0.5)
    clock, ends = Clock(), list[float]()
    flows = Flows(clock.later)
    ring = Ring([Route((there,)), Route((back,))], flows, clock.later)
    other = flows.flow(Route((there,)), lambda now: flows.stop(now, other))
    ring.all_reduce(0.0, 4.0, ends.append)
    clock.later(start, lambda now: flows.start(now, other, 1.0))
    clock.run()
    # From 1 on, the first step has 1 byte left, and so has the other: both end at 3. From 4 on, the second has 0.5 left.
    assert ends == [{0.0: 6.0, 1.0: 6.0, 2.5: 6.0, 4.0: 5.5, 4.25: 5.25}[start]]


def test_many_small_hops_cost_little() -> None:
    """A ring of 64 that is alone asks for two things to be done, not for 8,064."""
    links = [both_ways(f"d{i}", f"d{(i + 1) % 64}", "wire", 1.0, 0.0)[0] for i in range(64)]
    clock, ends, asked = Clock(), list[float](), list[float]()

    def later(time: float, what: object) -> None:
        asked.append(time)
        clock.later(time, what)  # type: ignore[arg-type]

    Ring([Route((link,)) for link in links], Flows(later), later).all_reduce(0.0, 64.0, ends.append)
    clock.run()
    assert ends == [126.0]
    assert len(asked) == 1
