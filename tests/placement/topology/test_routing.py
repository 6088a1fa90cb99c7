"""Routes and reachability against code that shares nothing with them: every simple path, tried one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplace.errors import TopologyError
from torchplace.placement.topology import Device, Link, Switch, Topology
from torchplace.placement.topology.routing import REFERENCE_BYTES, unreachable

BANDWIDTHS = (1e9, 2e9, 12e9, 5e10)
LATENCIES = (0.0, 1e-6, 3e-6, 1e-4)


def device(name: str) -> Device:
    return Device(name, "toy", 1 << 30, {"float32": 1e12}, 1e11, 1e-6)


def paths(links: list[Link], forwards: set[str], source: str, target: str) -> Iterator[list[Link]]:
    """Every way from source to target that visits no node twice and passes only nodes that forward."""
    stack: list[list[Link]] = [[link] for link in links if link.source == source]
    while stack:
        path = stack.pop()
        here = path[-1].target
        if here == target:
            yield path
        elif here in forwards:
            seen = {source, *(link.target for link in path)}
            stack += [[*path, link] for link in links if link.source == here and link.target not in seen]


def cost(path: list[Link]) -> float:
    return sum(link.latency for link in path) + REFERENCE_BYTES / min(link.bandwidth for link in path)


@st.composite
def parts(draw: st.DrawFn, connected: bool) -> tuple[list[str], list[str], list[Link]]:
    devices = [f"d{i}" for i in range(draw(st.integers(1, 4)))]
    switches = [f"s{i}" for i in range(draw(st.integers(1 if connected else 0, 4)))]
    pairs: dict[tuple[str, str], None] = {}
    if connected:
        for i, switch in enumerate(switches[1:], 1):
            other = switches[draw(st.integers(0, i - 1))]
            pairs.update({(switch, other): None, (other, switch): None})
        for name in devices:
            switch = draw(st.sampled_from(switches))
            pairs.update({(name, switch): None, (switch, name): None})
    nodes = st.sampled_from([*devices, *switches])
    for one, other in draw(st.lists(st.tuples(nodes, nodes), max_size=8)):
        if one != other:
            pairs[one, other] = None
    links = [
        Link(one, other, "toy", draw(st.sampled_from(BANDWIDTHS)), draw(st.sampled_from(LATENCIES)))
        for one, other in pairs
    ]
    return devices, switches, draw(st.permutations(links))


@settings(max_examples=150, deadline=None)
@given(parts(connected=True))
def test_no_path_beats_the_route(drawn: tuple[list[str], list[str], list[Link]]) -> None:
    devices, switches, links = drawn
    topology = Topology("t", tuple(map(device, devices)), tuple(Switch(s, "toy") for s in switches), tuple(links))
    for source in devices:
        for target in devices:
            route = topology.route(source, target)
            if source == target:
                assert route.links == ()
                continue
            assert set(route.nodes[1:-1]) <= set(switches), "only switches forward"
            assert route.nodes[0] == source
            assert route.nodes[-1] == target
            ways = list(paths(links, set(switches), source, target))
            best = min(map(cost, ways))
            assert route.time(REFERENCE_BYTES) == pytest.approx(best, rel=1e-9)
            hops = min(len(way) for way in ways if cost(way) <= best * (1 + 1e-12))
            assert len(route) == hops


@settings(max_examples=100, deadline=None)
@given(parts(connected=True), st.randoms(use_true_random=False))
def test_routes_do_not_depend_on_the_order_of_links(drawn: tuple, random: object) -> None:
    devices, switches, links = drawn
    shuffled = list(links)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    nodes = tuple(map(device, devices)), tuple(Switch(s, "toy") for s in switches)
    one, other = Topology("t", *nodes, tuple(links)), Topology("t", *nodes, tuple(shuffled))
    assert one.digest == other.digest
    for source in devices:
        for target in devices:
            assert one.route(source, target) == other.route(source, target)


@settings(max_examples=150, deadline=None)
@given(parts(connected=False))
def test_reachability_is_what_a_search_finds(drawn: tuple[list[str], list[str], list[Link]]) -> None:
    devices, switches, links = drawn
    expected = {}
    for source in devices:
        lost = [
            target for target in devices if target != source and not any(paths(links, set(switches), source, target))
        ]
        if lost:
            expected[source] = lost
    assert unreachable(devices, switches, links) == expected
    nodes = tuple(map(device, devices)), tuple(Switch(s, "toy") for s in switches)
    if expected:
        with pytest.raises(TopologyError, match="there is no route from"):
            Topology("t", *nodes, tuple(links))
    else:
        assert Topology("t", *nodes, tuple(links)).device_names == tuple(devices)


def test_the_bottleneck_counts_once() -> None:
    """A plain shortest path adds bytes / bandwidth of each link, and takes the direct one: 1.5 against 2."""
    rate = REFERENCE_BYTES
    links = (
        Link("a", "s", "k", rate, 0),
        Link("s", "b", "k", rate, 0),
        Link("a", "b", "k", rate / 1.5, 0),
        Link("b", "a", "k", rate, 0),
    )
    topology = Topology("t", (device("a"), device("b")), (Switch("s", "toy"),), links)
    assert topology.route("a", "b").nodes == ("a", "s", "b")


def test_a_device_does_not_relay() -> None:
    """a - b - c by fast links, a - s - c by slow ones: the way from a to c is the slow one."""
    fast = [(x, y, 1e12) for x, y in ("ab", "ba", "bc", "cb")]
    slow = [(x, y, 1e9) for x, y in ("as", "sa", "cs", "sc")]
    links = tuple(Link(x, y, "k", bandwidth, 1e-6) for x, y, bandwidth in fast + slow)
    topology = Topology("t", tuple(map(device, "abc")), (Switch("s", "toy"),), links)
    assert topology.route("a", "c").nodes == ("a", "s", "c")


def test_a_thousand_devices() -> None:
    """No timing, but it would hit the time limit if construction searched from every device."""
    names = [f"d{i}" for i in range(1000)]
    hosts = [Switch(f"h{i}", "cpu-socket") for i in range(125)]
    links = [link for i, name in enumerate(names) for link in _both(name, f"h{i // 8}", 2e10)]
    links += [link for host in hosts for link in _both(host.name, "net", 1e10)]
    topology = Topology("cluster", tuple(map(device, names)), (*hosts, Switch("net", "network-switch")), tuple(links))
    assert topology.route("d0", "d999").nodes == ("d0", "h0", "net", "h124", "d999")
    assert all(len(topology.route("d500", name)) in (0, 2, 4) for name in names)


def _both(one: str, other: str, bandwidth: float) -> list[Link]:
    return [Link(one, other, "k", bandwidth, 1e-6), Link(other, one, "k", bandwidth, 1e-6)]


def test_fewer_hops_break_a_tie_and_rounding_does_not() -> None:
    """0.1 + 0.7 s are 0.8 s, though less as floats, so all three ways are equal; the direct one comes last."""
    links = (
        Link("z", "s", "k", 1e9, 0.1),
        Link("s", "a", "k", 1e9, 0.7),
        Link("z", "r", "k", 1e9, 0.1),
        Link("r", "p", "k", 1e9, 0.0),
        Link("p", "a", "k", 1e9, 0.7),
        Link("z", "a", "k", 1e9, 0.8),
        Link("a", "z", "k", 1e9, 0.0),
    )
    assert 0.1 + 0.7 < 0.8
    nodes = (device("a"), device("z")), tuple(Switch(s, "toy") for s in "prs")
    assert Topology("t", *nodes, links).route("z", "a").nodes == ("z", "a")
    assert Topology("t", *nodes, links[:5] + links[6:]).route("z", "a").nodes == ("z", "s", "a")


def test_names_break_the_ties_that_remain() -> None:
    links = [link for switch in "zyx" for end in "ab" for link in _both(end, switch, 1e9)]
    nodes = (device("a"), device("b")), tuple(Switch(s, "toy") for s in "zyx")
    for order in (links, links[::-1]):
        assert Topology("t", *nodes, tuple(order)).route("a", "b").nodes == ("a", "x", "b")


def test_what_can_stay_in_a_box_does() -> None:
    """Two sockets of one box: a slow joint inside, and two NICs with which the network would be faster."""
    inside = [("a", "s", 1e10), ("s", "t", 1e9), ("t", "b", 1e10)]
    outside = [("s", "n", 1e10), ("n", "net", 1e10), ("net", "m", 1e10), ("m", "t", 1e10), ("net", "c", 1e10)]
    links = tuple(link for one, other, bandwidth in inside + outside for link in _both(one, other, bandwidth))
    switches = (*(Switch(x, "cpu-socket") for x in "st"), *(Switch(x, "nic") for x in "nm"))
    topology = Topology("t", tuple(map(device, "abc")), (*switches, Switch("net", "network-switch")), links)
    assert topology.route("a", "b").nodes == ("a", "s", "t", "b")
    assert topology.route("s", "b").nodes == ("s", "t", "b")
    assert topology.route("a", "c").nodes == ("a", "s", "n", "net", "c")
    assert topology.route("n", "b").nodes == ("n", "s", "t", "b")


@pytest.mark.parametrize("back", ["t", "u"])
def test_one_way_chains_of_switches_are_followed(back: str) -> None:
    """There over s, t and u, which nothing leads back through; back over one of them, or not at all."""
    chain = [("a", "s"), ("s", "t"), ("t", "u"), ("u", "b"), ("b", back)]
    links = [Link(*pair, "k", 1e9, 0) for pair in chain]
    assert unreachable(["a", "b"], "stu", links) == {"b": ["a"]}
    links.append(Link(back, "a", "k", 1e9, 0))
    assert unreachable(["a", "b"], "stu", links) == {}
    topology = Topology("t", (device("a"), device("b")), tuple(Switch(s, "toy") for s in "stu"), tuple(links))
    assert topology.route("a", "b").nodes == ("a", "s", "t", "u", "b")
