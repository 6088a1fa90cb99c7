"""Clusters of presets: their names, their structure, and the routes through their networks."""

from __future__ import annotations

import pytest

from torchplace.errors import TopologyError
from torchplace.placement.topology import Topology
from torchplace.placement.topology.parts.networks import NETWORKS
from torchplace.placement.topology.presets import network_names, preset, preset_names
from torchplace.placement.topology.presets.cluster import MAX_BOXES, Cluster, parse


def test_names_say_preset_number_and_network() -> None:
    assert parse("dgx-h100*16@ndr400") == Cluster("dgx-h100", 16, "ndr400")
    assert str(parse("big-sur*04@10gbe")) == "big-sur*4@10gbe"
    assert Topology.preset("big-sur*4@10gbe").name == "big-sur*4@10gbe"
    assert Topology.preset("big-sur*4@10gbe") is Topology.resolve("big-sur*4@10gbe")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dgx-h10*16@ndr400", ["no preset 'dgx-h10'; did you mean 'dgx-h100'?", "(presets: big-sur, "]),
        ("*16@ndr400", ["no preset ''"]),
        ("dgx-h100*16@ndr", ["no network 'ndr'; did you mean 'ndr400'?", f"(networks: {', '.join(network_names())})"]),
        ("dgx-h100*16@", ["no network ''"]),
        ("dgx-h100*two@ndr400", [f"'two' boxes, expected a whole number from 1 to {MAX_BOXES}"]),
        ("dgx-h100*0@ndr400", ["'0' boxes"]),
        ("dgx-h100*-1@ndr400", ["'-1' boxes"]),
        ("dgx-h100*1.5@ndr400", ["'1.5' boxes"]),
        ("dgx-h100*²@ndr400", ["'²' boxes"]),
        (f"dgx-h100*{MAX_BOXES + 1}@ndr400", ["boxes, expected a whole number"]),
        (f"dgx-h100*{'9' * 5000}@ndr400", ["boxes, expected a whole number"]),
        ("dgx-h100*2@", ["no network ''"]),
        ("dgx-h100@ndr400", ["expected PRESET*N or PRESET*N@NETWORK, such as 'dgx-h100*16@ndr400'"]),
        ("dgx-h100*2*2@ndr400", ["expected PRESET*N or PRESET*N@NETWORK, such as 'dgx-h100*16@ndr400'"]),
        ("local*2@ndr400", ["no preset 'local'"]),
        ("a*b@c", ["no preset 'a'", "'b' boxes", "no network 'c'"]),
    ],
)
def test_malformed_names_are_explained(name: str, expected: list[str]) -> None:
    for take in (Topology.preset, Topology.resolve):
        with pytest.raises(TopologyError) as caught:
            take(name)
        for part in expected:
            assert part in str(caught.value)


@pytest.mark.parametrize("preset", preset_names())
def test_any_preset_makes_a_cluster(preset: str) -> None:
    box, cluster = Topology.preset(preset), Topology.preset(f"{preset}*2@100gbe")
    assert cluster.device_names == tuple(f"node{i}/{name}" for i in range(2) for name in box.device_names)
    assert {device.kind for device in cluster.devices} == {device.kind for device in box.devices}
    for device, original in zip(cluster.devices, box.devices * 2, strict=True):
        assert device.torch_device == original.torch_device
        assert device.peer_to_peer == original.peer_to_peer
    assert Topology.from_dict(cluster.to_dict()) == cluster


@pytest.mark.parametrize("preset", preset_names())
def test_inside_a_box_nothing_changes(preset: str) -> None:
    box, cluster = Topology.preset(preset), Topology.preset(f"{preset}*2@100gbe")
    for source in box.device_names:
        for target in box.device_names:
            route = cluster.route(f"node1/{source}", f"node1/{target}")
            assert route.nodes == tuple(f"node1/{name}" for name in box.route(source, target).nodes)
            assert route.time(1 << 20) == box.route(source, target).time(1 << 20)


def test_one_box_is_a_cluster_too() -> None:
    cluster = Topology.resolve("dgx-h100*1@ndr400")
    assert cluster.device_names == tuple(f"node0/gpu:{i}" for i in range(8))
    assert cluster.route("node0/gpu:0", "node0/gpu:7").nodes == ("node0/gpu:0", "node0/nvswitch", "node0/gpu:7")


@pytest.mark.parametrize(
    ("preset", "nics"),
    [
        ("big-sur", [0] * 8),
        ("dgx1-p100", [0, 0, 1, 1, 2, 2, 3, 3]),
        ("dgx1-v100", [0, 0, 1, 1, 2, 2, 3, 3]),
        ("dgx2", [i // 2 for i in range(16)]),
        ("dgx-a100", list(range(8))),
        ("dgx-h100", list(range(8))),
        ("dgx-b200", list(range(8))),
        ("rtx4090x4", [0] * 4),
    ],
)
def test_each_gpu_uses_the_nic_that_is_nearest(preset: str, nics: list[int]) -> None:
    cluster = Topology.preset(f"{preset}*3@ndr400")
    last = len(nics) - 1
    for gpu, nic in enumerate(nics):
        nodes = cluster.route(f"node0/gpu:{gpu}", f"node2/gpu:{last}").nodes
        assert [node for node in nodes if "nic" in node] == [f"node0/nic:{nic}", f"node2/nic:{nics[last]}"]
        assert nodes.count("network") == 1
        assert not any(node.startswith("node1/") for node in nodes)


def test_times_by_hand() -> None:
    """NDR: 48 GB/s and 14 us. TCP over 10 Gbit/s: 10 us more, and what leaving a PCIe switch takes, twice."""
    fast = Topology.preset("dgx-h100*2@ndr400").route("node0/gpu:0", "node1/gpu:0")
    assert fast.time(48_000_000) == pytest.approx(1e-3 + 14e-6)
    slow = Topology.preset("big-sur*2@10gbe").route("node0/gpu:0", "node1/gpu:0")
    assert slow.latency == pytest.approx(24e-6 + 2 * 150e-9)
    assert slow.bandwidth == pytest.approx(1.25e9 * 1448 / 1538)


def test_a_slot_can_be_narrower_than_the_network() -> None:
    assert Topology.preset("dgx-h100*2@xdr800").route("node0/gpu:0", "node1/gpu:0").bandwidth == 48e9
    assert Topology.preset("dgx2*2@hdr200").route("node0/gpu:0", "node1/gpu:0").bandwidth == 12e9


def test_networks_are_listed_from_slow_to_fast() -> None:
    assert network_names() == ("10gbe", "25gbe", "100gbe", "edr100", "hdr200", "ndr400", "xdr800")
    rates = [network.bandwidth for network in NETWORKS.values()]
    assert rates == sorted(rates)
    for name, network in NETWORKS.items():
        on_paper = int("".join(filter(str.isdigit, name))) * 1e9 / 8
        assert 0.9 * on_paper < network.bandwidth < on_paper


def test_consumer_boxes_are_staged_at_both_ends() -> None:
    route = Topology.preset("rtx4090x4*2@25gbe").route("node0/gpu:3", "node1/gpu:2")
    inner = ["socket:0", "memory:0", "socket:0", "nic:0"]
    assert route.nodes == (
        "node0/gpu:3",
        *(f"node0/{name}" for name in inner),
        "network",
        *(f"node1/{name}" for name in inner[::-1]),
        "node1/gpu:2",
    )


def test_a_thousand_gpus() -> None:
    """No timing, but a check of every pair would hit the time limit."""
    cluster = Topology.preset("dgx-h100*128@ndr400")
    assert len(cluster.devices) == 1024
    route = cluster.route("node0/gpu:0", "node127/gpu:7")
    assert str(route) == (
        "node0/gpu:0 -> node0/pcie:0 -> node0/nic:0 -> network -> node127/nic:7 -> node127/pcie:7 -> node127/gpu:7"
    )
    assert all(len(cluster.route("node64/gpu:3", name)) in (0, 2, 6) for name in cluster.device_names)


def test_a_hundred_boxes_of_consumer_gpus() -> None:
    cluster = Topology.preset("rtx4090x4*256@25gbe")
    assert len(cluster.devices) == 1024
    assert len(cluster.route("node0/gpu:0", "node255/gpu:3")) == 10


@pytest.mark.parametrize(
    ("name", "whole"),
    [("dgx-h100*2", "dgx-h100*2@ndr400"), ("dgx-a100*3", "dgx-a100*3@hdr200"), ("big-sur*2", "big-sur*2@100gbe")],
)
def test_without_a_network_boxes_are_on_their_own(name: str, whole: str) -> None:
    assert preset(name) == preset(whole)
    assert preset(name).name == whole


def test_without_a_network_an_unknown_preset_is_named() -> None:
    with pytest.raises(TopologyError, match=r"cluster 'dgx-h101\*2': no preset 'dgx-h101'"):
        preset("dgx-h101*2")
