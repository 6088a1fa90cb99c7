"""Transfers whose cost depends on their size: computed by hand, and alone as the route says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.placement.test_flows import Clock
from tests.placement.test_simulate_exactly import networks
from torchplace.placement.collective import Ring
from torchplace.placement.flows import Flows
from torchplace.placement.topology import Device, Link, Piece, Switch, Topology, both_ways
from torchplace.placement.traffic import Traffic, Transfer

Sent = tuple[str, str, float, float]
"""From, to, bytes, and when."""


def star(pieces: tuple[Piece, ...], up: float = 1000.0, down: float = 10.0) -> Topology:
    """Four devices around a switch: pieces on the way up to it."""
    devices = tuple(Device(f"d{i}", "toy", 1 << 30, {"float32": 1.0}, 1.0, 1.0) for i in range(4))
    ways = [(Link(d.name, "s", "wire", up, 0.0, pieces), Link("s", d.name, "wire", down, 0.5)) for d in devices]
    return Topology("star", devices, (Switch("s", "switch"),), tuple(link for way in ways for link in way))


def arrivals(topology: Topology, *sends: Sent) -> list[float]:
    """When transfers arrive."""
    clock, found = Clock(), [0.0] * len(sends)
    traffic = Traffic(topology, clock.later)

    def send(n: int, source: str, target: str, nbytes: float, start: float) -> None:
        transfer = Transfer(nbytes, lambda begun, time: found.__setitem__(n, time))
        clock.later(start, lambda now: traffic.channel(source, target).send(now, transfer))

    for n, sent in enumerate(sends):
        send(n, *sent)
    clock.run()
    return found


LARGE = (Piece(0, 1.0, 2.0), Piece(50, 16.0, 5.0))
"""Below 50 bytes 2 bytes/s and 1 s; from there 5 bytes/s, after 16 s."""
BUCKET = (Piece(0, 0.25, 1000.0), Piece(60, -5.75, 10.0))
"""60 bytes pass nearly at once; more take what they take at 10 bytes/s, but for 6 s."""


@pytest.mark.parametrize(
    ("sends", "expected"),
    [
        pytest.param([(0, 1, 40, 0)], [20 + 1.5], id="small"),
        pytest.param([(0, 1, 50, 0)], [10 + 16.5], id="the first of a piece"),
        pytest.param([(0, 1, 0, 0)], [1.5], id="nothing at all"),
        # 40 leave at 2 bytes/s till 20; then 100 at 5 till 40; then 40 till 60: each has a limit of its own.
        pytest.param(
            [(0, 1, 40, 0), (0, 1, 100, 0), (0, 1, 40, 0)], [20 + 1.5, 40 + 16.5, 60 + 1.5], id="one after the other"
        ),
        pytest.param([(0, 2, 40, 0), (1, 2, 100, 0)], [20 + 1.5, 20 + 16.5], id="10 are enough for 2 + 5"),
        pytest.param([(i, 3, 100, 0) for i in range(3)], [30 + 16.5] * 3, id="10 are not enough for 5 + 5 + 5"),
        # 2 and 4 + 4, which is less than they might have; at 20 they have 20 left each, and 5 bytes/s.
        pytest.param(
            [(0, 3, 40, 0), (1, 3, 100, 0), (2, 3, 100, 0)],
            [20 + 1.5, 24 + 16.5, 24 + 16.5],
            id="what the first leaves",
        ),
        # 2 and 5 till 20 (the third has 120 left); then 5 and 5.
        pytest.param(
            [(0, 3, 40, 0), (0, 3, 100, 0), (1, 3, 220, 0)], [20 + 1.5, 40 + 16.5, 44 + 16.5], id="company for two"
        ),
    ],
)
def test_large_transfers_are_faster(sends: list[tuple[int, int, float, float]], expected: list[float]) -> None:
    found = arrivals(star(LARGE), *((f"d{a}", f"d{b}", nbytes, start) for a, b, nbytes, start in sends))
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("sends", "expected"),
    [
        pytest.param([(0, 1, 30, 0)], [0.03 + 0.75], id="small"),
        pytest.param([(0, 1, 60, 0)], [0.06 + 0.75], id="no less than just below 60"),
        pytest.param([(0, 1, 100, 0)], [10 - 6 + 0.75], id="large"),
        # Seen as 47.5 bytes, for the latencies are 5.25 s below 0; at 5 bytes/s.
        pytest.param([(0, 1, 100, 0), (0, 2, 100, 0)], [9.5, 9.5], id="two large"),
        # 30 are seen as 0.3: at 5 bytes/s till 0.06; of 47.5 then 47.2 are left.
        pytest.param([(0, 1, 30, 0), (0, 2, 100, 0)], [0.06 + 0.75, 0.06 + 4.72], id="small and large"),
    ],
)
def test_through_a_bucket(sends: list[tuple[int, int, float, float]], expected: list[float]) -> None:
    topology = star(BUCKET, up=10.0, down=1000.0)
    found = arrivals(topology, *((f"d{a}", f"d{b}", nbytes, start) for a, b, nbytes, start in sends))
    assert found == pytest.approx(expected, rel=1e-9)


def test_no_transfer_takes_less_than_a_smaller_one() -> None:
    topology = star((Piece(0, 1.0, 2.0), Piece(100, 0.0, 10.0)))
    assert arrivals(topology, ("d0", "d1", 100, 0.0)) == [50 + 1.5]


@given(networks(coruns=False), st.lists(st.integers(0, 100), min_size=1, max_size=5))
def test_alone_a_transfer_takes_what_its_route_says(topology: Topology, sizes: list[int]) -> None:
    source, target = topology.device_names[:2]
    route = topology.route(source, target)
    sends = [(source, target, float(size), 1000.0 * n) for n, size in enumerate(sizes)]
    found = arrivals(topology, *sends)
    assert found == pytest.approx([start + route.time(size) for *_, size, start in sends], abs=1e-9)


def test_a_ring_takes_steps_of_the_size_of_a_share() -> None:
    """6 steps of a quarter: 15 bytes at 2 bytes/s, 150 at 5, and 15 again."""
    clock, ends = Clock(), list[float]()
    topology = star(LARGE)
    routes = [topology.route(f"d{i}", f"d{(i + 1) % 4}") for i in range(4)]
    ring = Ring(routes, Flows(clock.later), clock.later)
    for n, nbytes in enumerate((60, 600, 60)):
        clock.later(1000.0 * n, lambda now, nbytes=nbytes: ring.all_reduce(now, nbytes, ends.append))
    clock.run()
    expected = [6 * (7.5 + 1.5), 1000 + 6 * (30 + 16.5), 2000 + 6 * (7.5 + 1.5)]
    assert ends == pytest.approx(expected, rel=1e-9)


def test_pieces_that_say_what_the_link_says_change_nothing() -> None:
    plain = [k for i in range(3) for k in both_ways(f"d{i}", "s", "wire", 10.0, 0.25)]
    devices = tuple(Device(f"d{i}", "toy", 1 << 30, {"float32": 1.0}, 1.0, 1.0) for i in range(3))
    pieced = [Link(k.source, k.target, k.kind, k.bandwidth, k.latency, (Piece(5, 0.25, 10.0),)) for k in plain]
    sends = [("d0", "d2", 30.0, 0.0), ("d1", "d2", 50.0, 1.0), ("d0", "d2", 4.0, 2.0), ("d1", "d0", 7.0, 2.0)]
    one, other = (
        arrivals(Topology("t", devices, (Switch("s", "switch"),), tuple(links)), *sends) for links in (plain, pieced)
    )
    assert one == pytest.approx(other, rel=1e-12)
    # 30 alone till 1; then 5 each till 5, the 7 till 3.4; then 4 at 5 till 5.8; 26 are left alone till 8.4.
    assert one == pytest.approx([5.5, 8.9, 6.3, 3.9], rel=1e-9)
