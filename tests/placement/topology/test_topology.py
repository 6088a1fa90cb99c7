from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from torchplace.errors import TopologyError
from torchplace.placement.topology import Device, Link, Switch, Topology, both_ways


def device(name: str, kind: str = "toy", memory: int = 1 << 30) -> Device:
    return Device(name, kind, memory, {"float32": 1e12}, 1e11, 1e-6)


DEVICES = (device("gpu:0"), device("gpu:1"))
SWITCHES = (Switch("pcie:0", "pcie-switch"),)
LINKS = (
    *both_ways("gpu:0", "pcie:0", "pcie3-x16", 12e9, 1e-6),
    *both_ways("gpu:1", "pcie:0", "pcie3-x16", 12e9, 1e-6),
)
PAIR = Topology("pair", DEVICES, SWITCHES, LINKS)


def test_look_ups() -> None:
    assert PAIR.device_names == ("gpu:0", "gpu:1")
    assert PAIR.device("gpu:1") is DEVICES[1]
    assert [PAIR.index(name) for name in PAIR.device_names] == [0, 1]
    assert PAIR.route("gpu:0", "gpu:1") is PAIR.route("gpu:0", "gpu:1"), "cached"
    assert PAIR.route("gpu:0", "gpu:0").links == ()
    assert PAIR.route("pcie:0", "gpu:1").nodes == ("pcie:0", "gpu:1")


def test_sequences_become_tuples() -> None:
    topology = Topology("pair", list(DEVICES), list(SWITCHES), list(LINKS))  # type: ignore[arg-type]
    assert topology == PAIR
    assert hash(topology) == hash(PAIR)
    with pytest.raises(dataclasses.FrozenInstanceError):
        topology.name = "other"  # type: ignore[misc]


def test_one_device_needs_nothing_else() -> None:
    alone = Topology("one", (device("cpu:0"),))
    assert alone.route("cpu:0", "cpu:0").time(1e9) == 0


@pytest.mark.parametrize("look_up", [PAIR.device, PAIR.index, lambda name: PAIR.route("gpu:0", name)])
def test_unknown_names_list_the_known(look_up: object) -> None:
    with pytest.raises(TopologyError, match=r"no device 'gpu:10'; did you mean 'gpu:\d'.*gpu:0, gpu:1"):
        look_up("gpu:10")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "devices", "switches", "links", "message"),
    [
        ("", DEVICES, SWITCHES, LINKS, "name is ''"),
        ("t", (), SWITCHES, (), "has no devices"),
        ("t", (*DEVICES, device("gpu:0")), SWITCHES, LINKS, "2 devices or switches are named 'gpu:0'"),
        ("t", DEVICES, (*SWITCHES, Switch("gpu:1", "nic")), LINKS, "2 devices or switches are named 'gpu:1'"),
        ("t", DEVICES, SWITCHES, (*LINKS, LINKS[0]), "2 links go from 'gpu:0' to 'pcie:0'"),
        (
            "t",
            DEVICES,
            SWITCHES,
            (*LINKS, Link("gpu:0", "pcie:1", "k", 1, 0)),
            "joins 'pcie:1', which is no device or switch; did you mean 'pcie:0'?",
        ),
        ("t", DEVICES, SWITCHES, LINKS[:2], "no route from 'gpu:0' to 'gpu:1'"),
        ("t", DEVICES, SWITCHES, LINKS[1:], "no route from 'gpu:0' to 'gpu:1'"),
        ("t", DEVICES, SWITCHES, (LINKS[0], *LINKS[2:]), "no route from 'gpu:1' to 'gpu:0'"),
        ("t", DEVICES, (), (), "no route from 'gpu:0' to 'gpu:1'"),
    ],
)
def test_faults_are_named(
    name: str,
    devices: tuple[Device, ...],
    switches: tuple[Switch, ...],
    links: tuple[Link, ...],
    message: str,
) -> None:
    with pytest.raises(TopologyError) as caught:
        Topology(name, devices, switches, links)
    assert message in str(caught.value)
    assert "topology" in str(caught.value)


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(TopologyError) as caught:
        Topology("t", (*DEVICES, DEVICES[0]), SWITCHES, (*LINKS, Link("gpu:0", "x", "k", 1, 0)))
    assert "named 'gpu:0'" in str(caught.value)
    assert "joins 'x'" in str(caught.value)


def test_a_device_that_others_would_have_to_relay_for_is_not_connected() -> None:
    chain = (*both_ways("a", "b", "k", 1e9, 0), *both_ways("b", "c", "k", 1e9, 0))
    with pytest.raises(TopologyError, match="no route from 'a' to 'c'"):
        Topology("chain", tuple(map(device, "abc")), (), chain)


def test_the_digest_is_of_structure_alone() -> None:
    assert len(PAIR.digest) == 16
    int(PAIR.digest, 16)
    faster = tuple(dataclasses.replace(link, bandwidth=1.0, latency=9.0) for link in LINKS)
    bigger = tuple(dataclasses.replace(one, memory=5, launch_overhead=1.0) for one in DEVICES)
    assert Topology("other", bigger, SWITCHES, faster[::-1]).digest == PAIR.digest
    for changed in (
        Topology("pair", DEVICES[::-1], SWITCHES, LINKS),
        Topology("pair", (DEVICES[0], device("gpu:1", "other")), SWITCHES, LINKS),
        Topology("pair", DEVICES, (Switch("pcie:0", "nic"),), LINKS),
        Topology("pair", DEVICES, SWITCHES, (*LINKS, Link("gpu:0", "gpu:1", "k", 1, 0))),
    ):
        assert changed.digest != PAIR.digest


def test_networkx() -> None:
    graph = PAIR.to_networkx()
    assert graph.name == "pair"
    assert graph.nodes["gpu:0"] == {"role": "device", "kind": "toy", "memory": 1 << 30}
    assert graph.nodes["pcie:0"] == {"role": "switch", "kind": "pcie-switch"}
    assert graph.edges["gpu:0", "pcie:0"] == {"kind": "pcie3-x16", "bandwidth": 12e9, "latency": 1e-6}
    assert graph.number_of_edges() == 4


def test_copies_leave_the_caches_behind() -> None:
    PAIR.route("gpu:0", "gpu:1")
    for twin in (pickle.loads(pickle.dumps(PAIR)), copy.deepcopy(PAIR)):
        assert twin == PAIR
        assert not vars(twin).keys() & {"_network", "_ways", "_staging", "_routes"}
        assert twin.route("gpu:0", "gpu:1") == PAIR.route("gpu:0", "gpu:1")


def test_text_is_the_drawing() -> None:
    assert str(PAIR).startswith("pair: 2 devices, 1 switch, 4 links")
