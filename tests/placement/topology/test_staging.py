"""Routes of devices that cannot do peer-to-peer, by hand and against code that tries every simple path."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplace.errors import TopologyError
from torchplace.placement.topology import Device, Link, Switch, Topology, both_ways
from torchplace.placement.topology.routing import REFERENCE_BYTES
from torchplace.placement.topology.staging import unstaged

KINDS = ("host-memory", "cpu-socket", "nic")


def device(name: str, peer_to_peer: bool = False) -> Device:
    return Device(name, "toy", 1 << 30, {"float32": 1e12}, 1e11, 1e-6, peer_to_peer=peer_to_peer)


def flat(*pairs: tuple[Link, Link]) -> tuple[Link, ...]:
    return tuple(link for pair in pairs for link in pair)


SOCKET = Switch("s", "cpu-socket")
MEMORY = Switch("m", "host-memory")
STAR = flat(
    both_ways("a", "s", "pcie", 10e9, 1e-6),
    both_ways("b", "s", "pcie", 5e9, 1e-6),
    both_ways("s", "m", "memory", 80e9, 1e-7),
)


def test_without_peer_to_peer_the_way_goes_through_memory_and_passes_the_socket_twice() -> None:
    route = Topology("t", (device("a"), device("b")), (SOCKET, MEMORY), STAR).route("a", "b")
    assert route.nodes == ("a", "s", "m", "s", "b")
    assert [link.name for link in route.links] == ["a->s", "s->m", "m->s", "s->b"]
    assert route.bandwidth == 5e9, "pipelined: the narrowest link sets the rate"
    assert route.time(5e6) == pytest.approx(1e-3 + 2.2e-6)


@pytest.mark.parametrize("alone", ["a", "b"])
def test_one_such_device_is_enough(alone: str) -> None:
    devices = tuple(device(name, name != alone) for name in "ab")
    topology = Topology("t", devices, (SOCKET, MEMORY), STAR)
    assert topology.route("a", "b").nodes == ("a", "s", "m", "s", "b")
    assert topology.route("b", "a").nodes == ("b", "s", "m", "s", "a")


def test_with_peer_to_peer_memory_is_passed_by() -> None:
    devices = tuple(device(name, True) for name in "ab")
    assert Topology("t", devices, (SOCKET, MEMORY), STAR).route("a", "b").nodes == ("a", "s", "b")


def test_ends_that_are_switches_need_no_staging() -> None:
    topology = Topology("t", (device("a"), device("b")), (SOCKET, MEMORY), STAR)
    assert topology.route("m", "a").nodes == ("m", "s", "a")
    assert topology.route("a", "s").nodes == ("a", "s")
    assert topology.route("a", "a").links == ()


def test_a_bridge_is_always_taken_and_needs_no_memory() -> None:
    slow_bridge = both_ways("a", "b", "nvlink", 1e9, 0)
    devices = (device("a"), device("b"))
    assert Topology("t", devices, (SOCKET, MEMORY), STAR + slow_bridge).route("a", "b").nodes == ("a", "b")
    assert Topology("t", devices, (), slow_bridge).route("b", "a").nodes == ("b", "a")


def two_sockets(fast: str) -> Topology:
    """a at socket s0, b at s1, a memory at each; that of `fast` is the wider one."""
    wide = {f"m{i}": 40e9 if fast == f"m{i}" else 4e9 for i in range(2)}
    return Topology(
        "t",
        (device("a"), device("b")),
        (*(Switch(f"s{i}", "cpu-socket") for i in range(2)), *(Switch(f"m{i}", "host-memory") for i in range(2))),
        flat(
            both_ways("a", "s0", "pcie", 10e9, 1e-6),
            both_ways("b", "s1", "pcie", 10e9, 1e-6),
            both_ways("s0", "s1", "qpi", 8e9, 1e-7),
            *(both_ways(f"s{i}", f"m{i}", "memory", wide[f"m{i}"], 1e-7) for i in range(2)),
        ),
    )


def test_of_two_memories_the_faster_is_taken() -> None:
    assert two_sockets("m0").route("a", "b").nodes == ("a", "s0", "m0", "s0", "s1", "b")
    assert two_sockets("m1").route("a", "b").nodes == ("a", "s0", "s1", "m1", "s1", "b")
    assert two_sockets("m1").route("b", "a").nodes == ("b", "s1", "m1", "s1", "s0", "a")


def boxes(peer: str = "") -> tuple[tuple[Device, ...], tuple[Switch, ...], tuple[Link, ...]]:
    """Two boxes, a and b, each with a socket, a memory and a NIC; `peer` names the device that is one."""
    switches = [Switch("net", "network-switch")]
    links: list[Link] = []
    for box in "ab":
        switches += [
            Switch(f"s{box}", "cpu-socket"),
            Switch(f"m{box}", "host-memory"),
            Switch(f"n{box}", "nic"),
        ]
        links += flat(
            both_ways(box, f"s{box}", "pcie", 10e9, 1e-6),
            both_ways(f"s{box}", f"m{box}", "memory", 80e9, 0),
            both_ways(f"s{box}", f"n{box}", "pcie", 10e9, 0),
            both_ways(f"n{box}", "net", "ib", 12e9, 1e-6),
        )
    return tuple(device(name, name == peer) for name in "ab"), tuple(switches), tuple(links)


def test_between_boxes_each_device_is_staged_in_its_own() -> None:
    route = Topology("t", *boxes()).route("a", "b")
    assert route.nodes == ("a", "sa", "ma", "sa", "na", "net", "nb", "sb", "mb", "sb", "b")
    assert route.bandwidth == 10e9


@pytest.mark.parametrize(
    ("peer", "there", "back"),
    [
        ("a", "a sa na net nb sb mb sb b", "b sb mb sb nb net na sa a"),
        ("b", "a sa ma sa na net nb sb b", "b sb nb net na sa ma sa a"),
    ],
)
def test_a_nic_reaches_a_peer_directly(peer: str, there: str, back: str) -> None:
    topology = Topology("t", *boxes(peer))
    assert topology.route("a", "b").nodes == tuple(there.split())
    assert topology.route("b", "a").nodes == tuple(back.split())


def test_the_memory_of_another_box_does_not_do() -> None:
    devices, switches, links = boxes()
    without = tuple(switch for switch in switches if switch.name != "ma")
    kept = tuple(link for link in links if "ma" not in (link.source, link.target))
    with pytest.raises(
        TopologyError,
        match=r"no route from 'a' to 'b' \('a' cannot do peer-to-peer: .* kind 'host-memory' in its box\)",
    ):
        Topology("t", devices, without, kept)


def test_no_memory_at_all_is_an_error_that_names_the_pair() -> None:
    with pytest.raises(TopologyError, match=r"no route from 'a' to 'b' \('b' cannot do peer-to-peer"):
        Topology("t", (device("a", True), device("b")), (SOCKET,), STAR[:4])


# Against every simple path. Peers are d0 and so on, the others x0 and so on.


def paths(links: list[Link], forwards: set[str], source: str, target: str) -> Iterator[tuple[Link, ...]]:
    """Every way that visits no node twice and passes only nodes that forward; the empty one to itself."""
    if source == target:
        yield ()
        return
    stack: list[tuple[Link, ...]] = [(link,) for link in links if link.source == source]
    while stack:
        path = stack.pop()
        here = path[-1].target
        if here == target:
            yield path
        elif here in forwards:
            seen = {source, *(link.target for link in path)}
            stack += [(*path, link) for link in links if link.source == here and link.target not in seen]


def time(path: tuple[Link, ...]) -> float:
    """Seconds for the reference size; a link that is crossed twice is half as wide."""
    narrow = min(link.bandwidth / path.count(link) for link in path)
    return sum(link.latency for link in path) + REFERENCE_BYTES / narrow


def best(links: list[Link], forwards: set[str], source: str, target: str) -> tuple[Link, ...] | None:
    ways = list(paths(links, forwards, source, target))
    return min(ways, key=lambda way: (time(way), len(way)) if way else (0.0, 0), default=None)


def expected(parts: Parts, source: str, target: str) -> float | None:
    """Seconds of the reference size by the policy, as the docstrings of `staging` and `ways` word it."""
    names, switches, links = parts
    forwards, inward = set(switches), {name for name, kind in switches.items() if kind != "nic"}
    if not names[source] and not names[target]:
        way = best(links, inward, source, target) or best(links, forwards, source, target)
        return None if way is None else time(way)
    direct = [link for link in links if (link.source, link.target) == (source, target)]
    if direct:
        return time((direct[0],))
    memories = [name for name, kind in switches.items() if kind == "host-memory"]
    totals = []
    for first, last in itertools.product(
        memories if names[source] else [source], memories if names[target] else [target]
    ):
        legs = [
            best(links, inward, source, first),
            () if first == last else best(links, inward, first, last) or best(links, forwards, first, last),
            best(links, inward, last, target),
        ]
        if None not in legs:
            totals.append(time(tuple(link for leg in legs for link in leg or ())))
    return min(totals, default=None)


Parts = tuple[dict[str, bool], dict[str, str], list[Link]]


@st.composite
def drawn_parts(draw: st.DrawFn) -> Parts:
    """Devices (whether each is without peer-to-peer), kinds of switches, links with widths that no two share."""
    names = {"x0": True} | {f"d{i}": False for i in range(draw(st.integers(0, 2)))}
    names |= {f"x{i}": True for i in range(1, draw(st.integers(1, 3)))}
    switches = {f"s{i}": draw(st.sampled_from(KINDS)) for i in range(draw(st.integers(1, 4)))}
    joints: list[tuple[str, str]] = []
    if whole := draw(st.integers(0, 3)):  # most are in one piece; by chance alone, few would be
        switches["s0"] = "host-memory"
        joints += [(f"s{i}", f"s{draw(st.integers(0, i - 1))}") for i in range(1, len(switches))]
        joints += [(name, draw(st.sampled_from(sorted(switches)))) for name in names]
    nodes = st.sampled_from([*names, *switches])
    joints += draw(st.lists(st.tuples(nodes, nodes), min_size=0 if whole else 4, max_size=4 if whole else 10))
    pairs = dict.fromkeys((one, other) for pair in joints for one, other in (pair, pair[::-1]) if one != other)
    for pair in draw(st.lists(st.sampled_from(sorted(pairs) or [("x0", "s0")]), max_size=0 if whole > 1 else 2)):
        pairs.pop(pair, None)
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    # Widths and latencies that differ keep ties, which this code would break otherwise, out of the comparison.
    links = [Link(*pair, "toy", chance.uniform(1e9, 5e10), chance.uniform(1e-7, 1e-5)) for pair in pairs]
    return names, switches, links


@settings(max_examples=150, deadline=None)
@given(drawn_parts())
def test_the_policy_holds_and_what_has_no_route_is_refused(parts: Parts) -> None:
    names, switches, links = parts
    devices = tuple(device(name, not alone) for name, alone in names.items())
    nodes = tuple(Switch(name, kind) for name, kind in switches.items())
    times = {pair: expected(parts, *pair) for pair in itertools.permutations(names, 2)}
    lost: dict[str, list[str]] = {}
    for (source, target), seconds in times.items():
        if seconds is None:
            lost.setdefault(source, []).append(target)
    assert unstaged(devices, nodes, links) == lost
    if lost:
        with pytest.raises(TopologyError, match="there is no route from"):
            Topology("t", devices, nodes, tuple(links))
        return
    topology = Topology("t", devices, nodes, tuple(links))
    for pair, seconds in times.items():
        assert topology.route(*pair).time(REFERENCE_BYTES) == pytest.approx(seconds, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(drawn_parts(), st.randoms(use_true_random=False))
def test_the_order_of_links_does_not_matter(parts: Parts, chance: random.Random) -> None:
    names, switches, links = parts
    shuffled = list(links)
    chance.shuffle(shuffled)
    devices = tuple(device(name, not alone) for name, alone in names.items())
    nodes = tuple(Switch(name, kind) for name, kind in switches.items())
    if unstaged(devices, nodes, links):
        return
    one, other = Topology("t", devices, nodes, tuple(links)), Topology("t", devices, nodes[::-1], tuple(shuffled))
    for pair in itertools.permutations(names, 2):
        assert one.route(*pair) == other.route(*pair)
