from __future__ import annotations

from torchplace.placement.topology import Device, Switch, Topology, both_ways, matrix_text
from torchplace.placement.topology.presets import preset


def device(name: str) -> Device:
    return Device(name, "toy", 1 << 30, {"float32": 2e12}, 1e11, 1e-6)


def star(names: list[str], kind: str) -> Topology:
    links = tuple(link for name in names for link in both_ways(name, "s", "k", 1e9, 1e-6))
    return Topology("star", tuple(map(device, names)), (Switch("s", kind),), links)


def test_a_matrix_with_what_its_codes_are_worth() -> None:
    assert matrix_text(star(["a", "b"], "pcie-switch")) == (
        "   a    b\na  X    PIX\nb  PIX  X\n\n  X    the node itself\n  PIX  at most one PCIe switch  1 GB/s  2 us"
    )


def test_each_number_of_nvlinks_has_a_line_and_ranges_are_ranges() -> None:
    text = matrix_text(preset("dgx1-v100"))
    assert "  NV1  one NVLink, direct or through NVSwitches                 23.9 GB/s  3.4 us" in text
    assert "  NV2  2 bonded NVLinks, direct or through NVSwitches           47.9 GB/s  3.4 us" in text
    mixed = matrix_text(preset("rtx3090-3060"))
    assert "  PHB  one PCIe host bridge (the CPU)                  12 GB/s  5.97 us" in mixed


def test_a_cluster_shows_each_sort_of_box_once_its_nics_and_the_way_between_boxes() -> None:
    text = matrix_text(preset("dgx-h100*512@ndr400"))
    assert text.startswith("node0:\n")
    assert "nic:7" in text.splitlines()[1]
    assert "NET   a network" in text
    assert len(text.splitlines()) < 30
    assert "node1" not in text


def test_more_than_fits_is_said_and_can_be_asked_for() -> None:
    wide = star([f"d:{i}" for i in range(100)], "network-switch")
    text = matrix_text(wide)
    assert "(84 more nodes of 100 devices and 0 NICs: --full)" in text
    assert len(text.splitlines()) < 25
    rows = [line for line in matrix_text(wide, full=True).splitlines() if line.startswith("d:")]
    assert len(rows) == 100
    assert all(len(row.split()) == 101 for row in rows)


def test_all_of_a_cluster_is_one_matrix() -> None:
    text = matrix_text(preset("rtx4090x4*2@10gbe"), full=True)
    first = next(line for line in text.splitlines() if line.startswith("node0/gpu:0"))
    assert first.split() == ["node0/gpu:0", "X", "PHB", "PHB", "PHB", "NET", "NET", "NET", "NET", "PHB", "NET"]
