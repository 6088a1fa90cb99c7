from __future__ import annotations

import pytest

from torchplace.placement.topology import (
    Device,
    Link,
    Switch,
    Topology,
    both_ways,
    draw_text,
    matrix_text,
)
from torchplace.placement.topology.draw import LEGEND, code, rate
from torchplace.placement.topology.presets import PRESETS, preset


def device(name: str) -> Device:
    return Device(name, "toy", 3 << 29, {"float32": 2e12}, 1e11, 1e-6)


def star(kind: str, link: str = "k", center: str = "s") -> Topology:
    links = (*both_ways("a", center, link, 1e9, 1e-6), *both_ways("b", center, link, 1e9, 1e-6))
    return Topology("star", (device("a"), device("b")), (Switch(center, kind),), links)


def test_tree() -> None:
    links = (
        *both_ways("gpu:0", "pcie:0", "pcie3-x16", 12e9, 1e-6),
        *both_ways("gpu:1", "pcie:0", "pcie3-x16", 12e9, 1e-6),
        *both_ways("pcie:0", "socket:0", "pcie3-x16", 12e9, 1e-6),
        *both_ways("socket:0", "socket:1", "qpi", 6e9, 1e-6),
        *both_ways("gpu:0", "gpu:1", "nvlink2-x2", 48e9, 1e-6),
        Link("cpu:0", "socket:1", "dmi", 4e8, 0),
        Link("socket:1", "cpu:0", "dmi", 2e9, 0),
    )
    switches = (
        Switch("pcie:0", "pcie-switch"),
        Switch("socket:0", "cpu-socket"),
        Switch("socket:1", "cpu-socket"),
    )
    box = Topology("box", tuple(map(device, ("gpu:0", "gpu:1", "cpu:0"))), switches, links)
    assert draw_text(box) == (
        "box: 3 devices, 3 switches, 12 links (one for each direction)\n"
        "socket:0 (cpu-socket)\n"
        "│    qpi 6 GB/s to socket:1\n"
        "└─ pcie:0 (pcie-switch), pcie3-x16 12 GB/s\n"
        "   ├─ gpu:0 (toy, 1.5 GiB at 100 GB/s, 2 TFLOP/s float32), pcie3-x16 12 GB/s\n"
        "   │       nvlink2-x2 48 GB/s to gpu:1\n"
        "   └─ gpu:1 (toy, 1.5 GiB at 100 GB/s, 2 TFLOP/s float32), pcie3-x16 12 GB/s\n"
        "           nvlink2-x2 48 GB/s to gpu:0\n"
        "socket:1 (cpu-socket)\n"
        "│    qpi 6 GB/s to socket:0\n"
        "└─ cpu:0 (toy, 1.5 GiB at 100 GB/s, 2 TFLOP/s float32), dmi 400 MB/s out, 2 GB/s in"
    )


def test_matrix() -> None:
    assert matrix_text(star("pcie-switch")) == (
        "   a    b\na  X    PIX\nb  PIX  X\n\n  X    the device itself\n  PIX  one PCIe switch"
    )


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (star("pcie-switch"), "PIX"),
        (star("cpu-socket"), "PHB"),
        (star("host-memory"), "MEM"),
        (star("network-switch"), "NET"),
        (star("nic"), "NET"),
        (star("nvswitch", "nvlink4-x18"), "NV18"),
        (star("crossbar"), "VIA"),
        (Topology("t", (device("a"), device("b")), (), both_ways("a", "b", "nvlink2", 1, 0)), "NV1"),
        (Topology("t", (device("a"), device("b")), (), both_ways("a", "b", "tcp", 1, 0)), "DIR"),
    ],
)
def test_codes(topology: Topology, expected: str) -> None:
    assert code(topology, "a", "b") == expected
    assert code(topology, "a", "a") == "X"
    assert expected in LEGEND or expected.startswith("NV")


def test_links_of_one_direction_say_so() -> None:
    links = (*star("nic").links, Link("a", "b", "wire", 3e9, 0))
    text = draw_text(Topology("t", (device("a"), device("b")), (Switch("s", "nic"),), links))
    assert "wire 3 GB/s out only to b" in text
    assert "wire 3 GB/s in only to a" in text


@pytest.mark.parametrize("name", PRESETS)
def test_every_node_is_drawn_once_and_every_connection_too(name: str) -> None:
    machine = preset(name)
    lines = draw_text(machine).splitlines()[1:]
    heads = [line for line in lines if "(" in line]
    nodes = [*machine.device_names, *(switch.name for switch in machine.switches)]
    for node in nodes:
        assert sum(f"{node} (" in line for line in heads) == 1
    pairs = {frozenset((link.source, link.target)) for link in machine.links}
    crossing = sum(line.count(",") + 1 for line in lines if " to " in line)
    joined = sum(line.count("), ") for line in heads)
    assert joined + crossing / 2 == len(pairs)


def test_devices_without_switches() -> None:
    text = draw_text(Topology("t", (device("a"), device("b")), (), both_ways("a", "b", "tcp", 125e6, 1e-4)))
    assert text.splitlines()[1:] == [
        "a (toy, 1.5 GiB at 100 GB/s, 2 TFLOP/s float32)",
        "     tcp 125 MB/s to b",
        "b (toy, 1.5 GiB at 100 GB/s, 2 TFLOP/s float32)",
        "     tcp 125 MB/s to a",
    ]


def test_rates() -> None:
    assert [rate(value) for value in (12e9, 23.95e9, 94.5e6, 1e9)] == [
        "12 GB/s",
        "23.9 GB/s",
        "94.5 MB/s",
        "1 GB/s",
    ]
