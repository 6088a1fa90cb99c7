from __future__ import annotations

import math

import pytest

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import Link, Route

UP = Link("a", "s", "k", 10e9, 1e-6)
DOWN = Link("s", "b", "k", 4e9, 2e-6)


def test_alpha_beta_over_the_narrowest_link() -> None:
    route = Route((UP, DOWN))
    assert route.latency == pytest.approx(3e-6)
    assert route.bandwidth == 4e9
    assert route.time(8e9) == pytest.approx(2 + 3e-6)
    assert route.time(0) == route.latency
    assert route.nodes == ("a", "s", "b")
    assert len(route) == 2
    assert str(route) == "a -> s -> b"


def test_a_link_that_is_crossed_twice_has_half_its_bandwidth_for_each() -> None:
    back = Link("b", "a", "k", 9e9, 1e-6)
    route = Route((UP, DOWN, back, UP))
    assert route.bandwidth == 4e9, "that of the narrowest, which is crossed once"
    assert Route((DOWN, back, UP, DOWN)).bandwidth == 2e9
    assert Route((DOWN, back, UP, DOWN)).latency == pytest.approx(6e-6)
    assert route.nodes == ("a", "s", "b", "a", "s")


def test_an_empty_route_costs_nothing() -> None:
    route = Route(())
    assert (route.latency, route.bandwidth, route.nodes) == (0, math.inf, ())
    assert route.time(1 << 40) == 0
    assert str(route) == "(stays)"


def test_the_way_back_costs_the_same_to_the_last_bit() -> None:
    latencies = (0.1, 0.2, 0.3)
    assert sum(latencies) != sum(reversed(latencies))
    there = [Link(f"n{i}", f"n{i + 1}", "k", 1e9, latency) for i, latency in enumerate(latencies)]
    back = [Link(link.target, link.source, "k", 1e9, link.latency) for link in reversed(there)]
    assert Route(tuple(there)).latency == Route(tuple(back)).latency


def test_links_must_follow_each_other() -> None:
    with pytest.raises(TopologyError, match=r"s->b, a->s: a link must start where"):
        Route((DOWN, UP))


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(OptionError, match="nbytes is -1"):
        Route((UP,)).time(-1)
