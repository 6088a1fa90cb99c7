from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import Link, Piece, Route

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


EAGER = (Piece(0, 1.0, 2.0), Piece(10, 5.0, 20.0))
"""At 10 bytes, 6 s would do for eager, and 5.5 s for the other way."""


def test_latency_and_bandwidth_are_those_for_the_size() -> None:
    route = Route((Link("a", "s", "k", 100.0, 9.0, EAGER), Link("s", "b", "k", 8.0, 0.25)))
    assert (route.latency, route.bandwidth, route.by_size) == (9.25, 8.0, True)
    assert route.at(4) == (1.25, 2.0)
    assert route.time(4) == 3.25
    assert route.at(40) == (5.25, 8.0), "the other link is the narrow one"
    assert route.time(40) == 10.25
    assert route.time(0) == 1.25
    assert not Route((UP, DOWN)).by_size


def test_a_route_is_cut_where_any_of_its_links_is() -> None:
    there = Link("a", "s", "k", 1.0, 0.0, (Piece(0, 1.0, 4.0), Piece(8, 2.0, 4.0)))
    back = Link("s", "b", "k", 1.0, 0.5, (Piece(4, 2.75, 2.0),))
    route = Route((there, back))
    assert [route.at(n) for n in (0, 3, 4, 7, 8)] == [(1.5, 1.0)] * 2 + [(3.75, 2.0)] * 2 + [(4.75, 2.0)]


def test_a_faster_piece_takes_no_less_than_what_is_before_it() -> None:
    route = Route((Link("a", "b", "k", 1.0, 0.5, (Piece(4, 0.75, 2.0),)),))
    assert [route.time(n) for n in (3, 4, 7, 8, 10)] == [3.5, 4.5, 4.5, 4.75, 5.75]
    assert route.at(4) == (2.5, 2.0)


def test_a_latency_below_zero_is_told_as_bandwidth() -> None:
    route = Route((Link("a", "b", "k", 2.0, 0.0, (Piece(0, 0.5, 1e9), Piece(4, -1.0, 2.0))),))
    assert route.at(10) == (0.0, 2.5)
    assert route.time(10) == 4.0


def test_a_link_that_is_crossed_twice_delays_twice() -> None:
    link, back = Link("a", "s", "k", 8.0, 0.0, (Piece(0, 1.0, 4.0),)), Link("s", "a", "k", 80.0, 0.0)
    assert Route((link, back, link)).at(6) == (2.0, 2.0)


pieces = st.builds(
    lambda starts, costs: tuple(
        Piece(start, max(latency, -start / bandwidth), bandwidth)
        for start, (latency, bandwidth) in zip(sorted(starts), costs, strict=False)
    ),
    st.sets(st.integers(0, 100), max_size=4),
    st.lists(st.tuples(st.floats(-20, 20), st.floats(0.1, 100)), min_size=4, max_size=4),
)


@given(st.lists(pieces, min_size=1, max_size=3), st.lists(st.floats(0, 200), min_size=2, max_size=2))
def test_no_transfer_takes_less_time_than_a_smaller_one(of_links: list[tuple[Piece, ...]], sizes: list[float]) -> None:
    links = [Link(f"n{i}", f"n{i + 1}", "k", 7.0, 0.5, of_link) for i, of_link in enumerate(of_links)]
    route = Route(tuple(links))
    small, large = (route.time(size) for size in sorted(sizes))
    assert small <= large * (1 + 1e-12)
    for size in sizes:
        latency, bandwidth = route.at(size)
        assert latency >= 0
        assert bandwidth > 0
