from __future__ import annotations

import pytest

from torchplace.placement.topology import CoRun, Device, Link, Switch, Topology, both_ways, draw_text
from torchplace.placement.topology.presets import PRESETS, preset


def device(name: str) -> Device:
    return Device(name, "toy", 3 << 29, {"float32": 2e12, "float64": 1e11}, 1e11, 1e-6)


def test_a_tree_from_sockets_down() -> None:
    links = (
        *both_ways("gpu:0", "pcie:0", "pcie3-x16", 12e9, 1e-6),
        *both_ways("gpu:1", "pcie:0", "pcie3-x16", 12e9, 1e-6),
        *both_ways("pcie:0", "socket:0", "pcie3-x16", 12e9, 1e-6),
        *both_ways("socket:0", "socket:1", "qpi", 6e9, 1e-6),
        *both_ways("gpu:0", "gpu:1", "nvlink2-x2", 48e9, 1e-6),
        Link("cpu:0", "socket:1", "dmi", 4e8, 0),
        Link("socket:1", "cpu:0", "dmi", 2e9, 0),
    )
    switches = (Switch("pcie:0", "pcie-switch"), Switch("socket:0", "cpu-socket"), Switch("socket:1", "cpu-socket"))
    devices = tuple(map(device, ("gpu:0", "gpu:1", "cpu:0")))
    box = Topology("box", devices, switches, links, (CoRun("power", ("gpu:0", "gpu:1")),))
    assert draw_text(box) == (
        "box: 3 devices, 3 switches, 12 links (one for each direction)\n"
        "\n"
        "     device   memory  bandwidth  TFLOP/s:   float32  float64\n"
        "3 x  toy     1.5 GiB   100 GB/s                   2      0.1\n"
        "\n"
        "node         kind         link up                      other links\n"
        "socket:0     cpu-socket                                qpi 6 GB/s to socket:1\n"
        "└─ pcie:0    pcie-switch  pcie3-x16 12 GB/s\n"
        "   ├─ gpu:0  toy          pcie3-x16 12 GB/s            nvlink2-x2 48 GB/s to gpu:1\n"
        "   └─ gpu:1  toy          pcie3-x16 12 GB/s            nvlink2-x2 48 GB/s to gpu:0\n"
        "socket:1     cpu-socket                                qpi 6 GB/s to socket:0\n"
        "└─ cpu:0     toy          dmi 400 MB/s out, 2 GB/s in\n"
        "\n"
        "gpu:0, gpu:1 share power"
    )


def test_links_of_one_direction_say_so() -> None:
    links = (*both_ways("a", "s", "k", 1e9, 0), *both_ways("b", "s", "k", 1e9, 0), Link("a", "b", "wire", 3e9, 0))
    text = draw_text(Topology("t", (device("a"), device("b")), (Switch("s", "nic"),), links))
    assert "wire 3 GB/s out only to b" in text
    assert "wire 3 GB/s in only to a" in text


def test_devices_without_switches() -> None:
    text = draw_text(Topology("t", (device("a"), device("b")), (), both_ways("a", "b", "tcp", 125e6, 1e-4)))
    assert text.splitlines()[-2:] == [
        "a     toy            tcp 125 MB/s to b",
        "b     toy            tcp 125 MB/s to a",
    ]


@pytest.mark.parametrize("name", [*PRESETS, "dgx1-v100*2@edr100", "rtx4090x4*2@10gbe"])
def test_every_node_and_every_connection_is_drawn(name: str) -> None:
    machine = preset(name)
    lines = draw_text(machine, full=True).split("\n\n", 2)[2].splitlines()
    names = {node: node.rpartition("/")[2] for node in [*machine.device_names, *(s.name for s in machine.switches)]}
    first = [line.lstrip(" │├└─").partition(" ")[0] for line in lines if not line.endswith(":")]
    for short in set(names.values()):
        assert first.count(short) == [*names.values()].count(short)
    pairs = {frozenset((link.source, link.target)) for link in machine.links}
    ups = sum("─ " in line for line in lines)
    others = [line.rpartition(" to ")[2] for line in lines if " to " in line]
    ends = sum(_names(text) for text in others)
    assert ups + ends / 2 == len(pairs)


def _names(text: str) -> int:
    """How many names a list such as "gpu:0..gpu:7, nvswitch" stands for, or "8 nics"."""
    if text.endswith(" nics"):
        return int(text.removesuffix(" nics"))
    total = 0
    for part in text.split(", "):
        first, _, last = part.partition("..")
        total += int(last.rpartition(":")[2]) - int(first.rpartition(":")[2]) + 1 if last else 1
    return total


def test_boxes_that_are_alike_are_drawn_once() -> None:
    text = draw_text(preset("dgx-h100*64@ndr400"))
    assert "node0, and 63 like it (node1..node63):" in text
    assert "ndr400 48 GB/s to 512 nics" in text
    assert "512 x  h100-sxm5-80gb" in text
    assert len(text.splitlines()) < 60
    assert "node63:" in draw_text(preset("dgx-h100*64@ndr400"), full=True)


def test_boxes_that_differ_are_all_drawn() -> None:
    small, large = Topology.preset("rtx4090x4*2@10gbe").to_dict(), Topology.preset("big-sur*2@10gbe").to_dict()

    def box(data: dict[str, list[dict[str, str]]], part: str, prefix: str) -> list[dict[str, str]]:
        ends = ("name",) if part != "links" else ("source", "target")
        return [entry for entry in data[part] if any(entry[end].startswith(prefix) for end in ends)]

    mixed = {"name": "mixed", "host": small["host"]}
    for part in ("devices", "switches", "links"):
        mixed[part] = box(small, part, "node0/") + box(large, part, "node1/")
    mixed["switches"].append({"name": "network", "kind": "network-switch"})
    text = draw_text(Topology.from_dict(mixed))
    assert "node0:" in text
    assert "node1:" in text
    assert text.count("rtx-4090 ") == 5
    assert text.count("m40 ") == 9


def test_many_leaves_that_are_alike_are_drawn_as_two() -> None:
    names = [f"d:{i}" for i in range(1000)]
    links = tuple(link for name in names for link in both_ways(name, "hub", "tcp", 1e9, 0))
    wide = Topology("wide", tuple(map(device, names)), (Switch("hub", "network-switch"),), links)
    text = draw_text(wide)
    assert "├─ d:0 " in text
    assert "│  ... 998 more like it" in text
    assert "└─ d:999 " in text
    assert len(text.splitlines()) < 12
    assert len(draw_text(wide, full=True).splitlines()) > 1000


def test_devices_that_all_differ_a_little_do_not_fill_the_screen() -> None:
    devices = tuple(
        Device(f"d:{i}", "toy", 1 << 30, {"float32": 1e9 + i}, 1e9 + 1e7 * i, 0, peer_to_peer=i != 3) for i in range(40)
    )
    links = tuple(link for one in devices for link in both_ways(one.name, "m", "memory", 1e9, 0))
    text = draw_text(Topology("t", devices, (Switch("m", "host-memory"),), links))
    assert "GFLOP/s:" in text
    assert "no peer-to-peer" in text
    assert "and 24 more sorts" in text
