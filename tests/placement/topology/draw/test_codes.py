from __future__ import annotations

import itertools

import pytest

from torchplace.placement.topology import Device, Link, Switch, Topology, both_ways
from torchplace.placement.topology.draw.codes import LEGEND, Codes, code
from torchplace.placement.topology.presets import preset


def device(name: str, peer_to_peer: bool = True) -> Device:
    return Device(name, "toy", 3 << 29, {"float32": 2e12}, 1e11, 1e-6, peer_to_peer=peer_to_peer)


def chain(*kinds: str, link: str = "pcie3-x16", peer_to_peer: bool = True) -> Topology:
    """Two devices with switches of some kinds in a row between them."""
    nodes = ["a", *(f"s{i}" for i in range(len(kinds))), "b"]
    links: list[Link] = []
    for one, other in itertools.pairwise(nodes):
        links += both_ways(one, other, link, 1e9, 1e-6)
    switches = tuple(Switch(f"s{i}", kind) for i, kind in enumerate(kinds))
    return Topology("t", (device("a", peer_to_peer), device("b", peer_to_peer)), switches, tuple(links))


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (chain("pcie-switch"), "PIX"),
        (chain(), "PIX"),
        (chain("pcie-switch", "pcie-switch"), "PXB"),
        (chain("cpu-socket"), "PHB"),
        (chain("pcie-switch", "host-bridge"), "PHB"),
        (chain("pcie-switch", "host-bridge", "cpu-socket", "pcie-switch"), "PHB"),
        (chain("host-bridge", "cpu-socket", "host-bridge"), "NODE"),
        (chain("cpu-socket", "cpu-socket"), "SYS"),
        (chain("host-bridge", "cpu-socket", "cpu-socket", "host-bridge"), "SYS"),
        (chain("host-memory"), "MEM"),
        (chain("cpu-socket", "nic", "network-switch", "nic", "cpu-socket"), "NET"),
        (chain("network-switch"), "NET"),
        (chain("nvswitch", link="nvlink4-x18"), "NV18"),
        (chain(link="nvlink2"), "NV1"),
        (chain("crossbar"), "VIA"),
        (chain(link="tcp"), "DIR"),
        (chain(link="memory"), "MEM"),
    ],
)
def test_codes(topology: Topology, expected: str) -> None:
    assert code(topology, "a", "b") == code(topology, "b", "a") == expected
    assert code(topology, "a", "a") == "X"
    assert expected in LEGEND or expected.startswith("NV")


def test_a_way_through_memory_passes_its_socket_twice_and_counts_once() -> None:
    """As `nvidia-smi` has it: how GPUs are joined, whether or not the driver offers peer-to-peer."""
    machine = preset("rtx4090x4")
    assert machine.route("gpu:0", "gpu:3").nodes.count("socket:0") == 2
    assert code(machine, "gpu:0", "gpu:3") == "PHB"


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        # Rows of GPU 0 in the matrices of real machines: github.com/NVIDIA/nccl-tests, issue 78; NVIDIA/nccl, issue 1453;
        # Microway's HPC tech tips.
        ("dgx2", "PIX PXB NODE NODE SYS SYS SYS SYS"),
        ("dgx-h100", "PIX NODE NODE NODE SYS SYS SYS SYS"),
        ("dgx1-v100", "PIX PHB SYS SYS"),
    ],
)
def test_nics_of_a_cluster_are_as_far_as_on_the_real_machine(name: str, codes: str) -> None:
    cluster = preset(f"{name}*2@100gbe")
    found = Codes(cluster)
    expected = codes.split()
    assert [found.of("node1/gpu:0", f"node1/nic:{i}") for i in range(len(expected))] == expected
    assert found.of("node0/gpu:0", "node1/gpu:0") == "NET"
