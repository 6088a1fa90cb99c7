"""Routes between boxes that are built alike, against those that are searched one by one."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplace.placement.cost.communication import AlphaBeta
from torchplace.placement.topology import Device, Link, Switch, Topology
from torchplace.placement.topology.link import both_ways
from torchplace.placement.topology.routing import REFERENCE_BYTES
from torchplace.placement.topology.twins import Twins


def twins_of(topology: Topology) -> Twins:
    return Twins(topology.devices, topology.switches, topology.links)


def told_apart(topology: Topology) -> Topology:
    """The same, but each box has a switch of its own that leads nowhere: no box is like another."""
    boxes = dict.fromkeys(name.split("/")[0] for name in topology.device_names)
    corners = [Switch(f"{box}/corner{i}", "toy") for i, box in enumerate(boxes)]
    first = {box: next(n for n in topology.device_names if n.startswith(f"{box}/")) for box in boxes}
    dead_ends = [Link(first[c.name.split("/")[0]], c.name, "toy", 1.0, 1.0) for c in corners]
    return Topology(topology.name, topology.devices, (*topology.switches, *corners), (*topology.links, *dead_ends))


def check(topology: Topology) -> None:
    """Every route is that which a search finds, and costs are the same to the last bit."""
    alone, links = told_apart(topology), AlphaBeta(topology)
    for source, target in product(topology.device_names, repeat=2):
        assert twins_of(alone).pair(source, target) == (source, target), "or nothing is compared"
        route = topology.route(source, target)
        assert route.nodes == alone.route(source, target).nodes
        assert links.time(source, target, 12345) == route.time(12345)


@pytest.mark.parametrize(
    "preset", ["dgx1-v100*3@ndr400", "big-sur*2@10gbe", "rtx3090-3060*3@100gbe", "dgx-a100*2@hdr200"]
)
def test_clusters_of_presets_have_the_routes_that_a_search_finds(preset: str) -> None:
    check(Topology.preset(preset))


@st.composite
def clusters(draw: st.DrawFn) -> Topology:
    """Two to four boxes of one or two sorts, each with a few NICs, on one or two network switches."""
    rates, delays = st.sampled_from([1e9, 2e9, 5e10]), st.sampled_from([0.0, 1e-6, 1e-4])
    networks = [f"net{i}" for i in range(draw(st.integers(1, 2)))]
    sorts = [
        [(draw(st.integers(0, 2)), draw(st.integers(0, 3)), draw(rates), draw(delays)) for _ in range(3)]
        for _ in range(draw(st.integers(1, 2)))
    ]
    devices, links = [], []
    switches = [Switch(name, "network-switch") for name in networks]
    for i in range(draw(st.integers(2, 4))):
        made, hub = draw(st.sampled_from(sorts)), f"box{i}/hub"
        switches.append(Switch(hub, "pcie-switch"))
        for number, (network, ways, rate, delay) in enumerate(made):
            gpu, nic = f"box{i}/gpu:{number}", f"box{i}/nic:{number}"
            devices.append(Device(gpu, "toy", 1 << 30, {"float32": 1e12}, 1e11, 1e-6))
            switches.append(Switch(nic, "nic"))
            links += [*both_ways(gpu, hub, "wire", rate, delay), *both_ways(nic, hub, "wire", 2e9, 1e-6)]
            links += both_ways(nic, networks[network % len(networks)], "net", rate, delay)
            if ways == 3 and number:
                links += both_ways(gpu, f"box{i}/gpu:0", "bridge", 5e10, delay)
    if len(networks) > 1:
        links += both_ways(*networks, "trunk", draw(rates), 1e-6)
    return Topology("cluster", tuple(devices), tuple(switches), tuple(links))


@settings(max_examples=30, deadline=None)
@given(clusters())
def test_routes_of_boxes_alike_cost_what_a_search_finds(topology: Topology) -> None:
    alone = told_apart(topology)
    for source, target in product(topology.device_names, repeat=2):
        route, searched = topology.route(source, target), alone.route(source, target)
        assert route.nodes[:1] == searched.nodes[:1]
        assert route.nodes[-1:] == searched.nodes[-1:]
        assert route.time(REFERENCE_BYTES) == pytest.approx(searched.time(REFERENCE_BYTES), rel=1e-12)
        assert len(route) == len(searched)


def test_one_pair_stands_for_all_that_are_alike() -> None:
    twins = twins_of(Topology.preset("dgx1-v100*4@ndr400"))
    assert twins.pair("node3/gpu:5", "node2/gpu:1") == ("node0/gpu:5", "node1/gpu:1")
    assert twins.pair("node2/gpu:5", "node3/gpu:1") == ("node0/gpu:5", "node1/gpu:1")
    assert twins.pair("node3/gpu:5", "node3/gpu:1") == ("node0/gpu:5", "node0/gpu:1")
    assert twins.pair("network", "node3/gpu:1") == ("network", "node3/gpu:1")


def test_a_box_with_one_slower_link_is_like_no_other() -> None:
    cluster = Topology.preset("dgx1-v100*3@ndr400")
    slower = [
        dataclasses.replace(link, bandwidth=link.bandwidth / 2) if link.source == "node1/gpu:0" else link
        for link in cluster.links
    ]
    changed = dataclasses.replace(cluster, links=tuple(slower))
    twins = twins_of(changed)
    assert twins.pair("node1/gpu:1", "node2/gpu:1") == ("node1/gpu:1", "node0/gpu:1")
    assert twins.pair("node2/gpu:1", "node0/gpu:1") == ("node0/gpu:1", "node2/gpu:1")
    check(changed)


def test_a_machine_of_one_box_has_no_twins() -> None:
    assert twins_of(Topology.preset("dgx1-v100")).pair("gpu:3", "gpu:1") == ("gpu:3", "gpu:1")


def test_names_that_stand_in_another_order_to_the_network_are_told_apart() -> None:
    """Of ways that cost the same, names choose: those of twins must do it alike."""
    parts = []
    for box in ("a", "z"):
        parts += [(f"{box}/gpu", f"{box}/nic"), (f"{box}/nic", "m")]
    links = [link for ends in parts for link in both_ways(*ends, "wire", 1e9, 1e-6)]
    devices = tuple(Device(f"{b}/gpu", "toy", 1 << 30, {"float32": 1e12}, 1e11, 1e-6) for b in "az")
    switches = (Switch("m", "network-switch"), *(Switch(f"{b}/nic", "nic") for b in "az"))
    topology = Topology("two", devices, switches, tuple(links))
    assert twins_of(topology).pair("z/gpu", "a/gpu") == ("z/gpu", "a/gpu")
    assert topology.route("z/gpu", "a/gpu").nodes == ("z/gpu", "z/nic", "m", "a/nic", "a/gpu")
