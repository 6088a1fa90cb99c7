"""What any preset must satisfy, and the facts of each machine."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import Topology
from torchplace.placement.topology.draw.codes import code
from torchplace.placement.topology.presets import PRESETS, network_names, preset, preset_names
from torchplace.placement.topology.presets.big_sur import LAYOUTS, big_sur

NAMES = (
    "big-sur", "big-sur-single-root", "big-sur-dual-root", "big-sur-cascaded", "dgx1-p100", "dgx1-v100", "dgx2",
    "dgx-a100", "dgx-h100", "dgx-b200", "rtx4090x4", "rtx3090-3060",
)  # fmt: skip
MACHINES = {name: preset(name) for name in PRESETS}


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Topology:
    return MACHINES[request.param]


def test_names() -> None:
    assert preset_names() == tuple(PRESETS) == NAMES
    for name in PRESETS:
        assert Topology.preset(name).name == name
        assert Topology.preset(name) is Topology.preset(name)


def test_the_docs_name_all_presets_and_networks() -> None:
    page = Path(__file__).parents[3] / "docs" / "concepts" / "topologies.md"
    text = page.read_text(encoding="utf-8")
    assert [name for name in (*preset_names(), *network_names()) if f"`{name}`" not in text] == []


def test_unknown_presets_list_the_known() -> None:
    with pytest.raises(
        TopologyError, match=r"'dgx-v100'; did you mean 'dgx1-v100'\? \(presets: big-sur, .*rtx3090-3060; or a cluster"
    ):
        Topology.preset("dgx-v100")


def test_links_are_symmetric(machine: Topology) -> None:
    ways = {(link.source, link.target): (link.kind, link.bandwidth, link.latency) for link in machine.links}
    assert all(ways[target, source] == fields for (source, target), fields in ways.items())


def test_routes_are_sane(machine: Topology) -> None:
    for source, target in itertools.permutations(machine.device_names, 2):
        route, back = machine.route(source, target), machine.route(target, source)
        for nbytes in (0, 1, 1 << 20, 1 << 30):
            assert route.time(nbytes) > 0
            assert route.time(nbytes) == back.time(nbytes)
        assert route.time(1 << 21) > route.time(1 << 20)


def test_going_through_a_third_device_is_never_needed(machine: Topology) -> None:
    """Relaying over a third device costs two transfers; only two NVLinks are ever faster than one route."""
    slow = [
        (a, b, c)
        for a, b, c in itertools.permutations(machine.device_names, 3)
        if machine.route(a, c).time(1 << 20) > machine.route(a, b).time(1 << 20) + machine.route(b, c).time(1 << 20)
    ]
    for a, b, c in slow:
        assert all(code(machine, *pair).startswith("NV") for pair in ((a, b), (b, c)))
        assert not code(machine, a, c).startswith("NV")


def test_it_survives_being_plain_data(machine: Topology) -> None:
    assert Topology.from_dict(machine.to_dict()) == machine


@pytest.mark.parametrize(
    ("name", "gpus", "float32", "float16", "bandwidth", "gigabytes"),
    [
        ("big-sur", 8, 6.84, 6.84, 288, 12),
        ("dgx1-p100", 8, 10.6, 21.2, 732, 17),
        ("dgx1-v100", 8, 15.7, 125, 900, 17),
        ("dgx2", 16, 15.7, 125, 900, 34),
        ("dgx-a100", 8, 19.5, 312, 2039, 86),
        ("dgx-h100", 8, 66.9, 989.4, 3350, 86),
        ("dgx-b200", 8, 75, 2250, 7670, 192),
        ("rtx4090x4", 4, 82.6, 165.2, 1008, 26),
        ("rtx3090-3060", 4, 35.6, 71, 936, 26),
    ],
)
def test_figures(name: str, gpus: int, float32: float, float16: float, bandwidth: float, gigabytes: int) -> None:
    machine = preset(name)
    device = machine.devices[0]
    assert machine.device_names == tuple(f"gpu:{i}" for i in range(gpus))
    assert device.peak("float32") == pytest.approx(float32 * 1e12)
    assert device.peak("float16") == pytest.approx(float16 * 1e12)
    assert device.memory_bandwidth == pytest.approx(bandwidth * 1e9)
    assert round(device.memory / 1e9) == gigabytes


def test_figures_agree_with_each_other(machine: Topology) -> None:
    for device in machine.devices:
        assert device.peak("float64") <= device.peak("float32") <= device.peak("float16")
        assert device.peak("bfloat16") in (device.peak("float16"), device.peak("float32"))
        assert device.peak("int8") >= device.peak("bfloat16")
        assert device.torch_device == device.name.replace("gpu", "cuda")
        assert device.peer_to_peer == (not device.kind.startswith("rtx"))


def test_peer_traffic_does_not_cut_through_memory(machine: Topology) -> None:
    """Only what has to be staged passes host memory, and it passes it once."""
    memories = {switch.name for switch in machine.switches if switch.kind == "host-memory"}
    for source, target in itertools.permutations(machine.device_names, 2):
        passed = [node for node in machine.route(source, target).nodes if node in memories]
        assert len(passed) == (
            not machine.device(source).peer_to_peer and machine.name + source + target not in BRIDGED
        )


BRIDGED = ("rtx3090-3060gpu:0gpu:1", "rtx3090-3060gpu:1gpu:0")


# As `nvidia-smi topo -m` prints it on the machine.
DGX1_MATRIX = """
X   NV1 NV1 NV2 NV2 SYS SYS SYS
NV1 X   NV2 NV1 SYS NV2 SYS SYS
NV1 NV2 X   NV2 SYS SYS NV1 SYS
NV2 NV1 NV2 X   SYS SYS SYS NV1
NV2 SYS SYS SYS X   NV1 NV1 NV2
SYS NV2 SYS SYS NV1 X   NV2 NV1
SYS SYS NV1 SYS NV1 NV2 X   NV2
SYS SYS SYS NV1 NV2 NV1 NV2 X
"""


def test_dgx1_is_the_matrix_that_nvidia_smi_prints() -> None:
    machine = preset("dgx1-v100")
    rows = [line.split() for line in DGX1_MATRIX.strip().splitlines()]
    names = machine.device_names
    assert [[code(machine, a, b) for b in names] for a in names] == rows


def test_six_nvlinks_leave_each_v100() -> None:
    machine = preset("dgx1-v100")
    for name in machine.device_names:
        mine = [link for link in machine.links if link.source == name and link.kind.startswith("nvlink")]
        assert sum(link.lanes for link in mine) == 6
        assert sum(link.bandwidth for link in mine) == pytest.approx(6 * 23.95e9)


def test_gpus_without_an_nvlink_go_over_the_sockets() -> None:
    route = preset("dgx1-v100").route("gpu:0", "gpu:7")
    assert route.nodes == ("gpu:0", "pcie:0", "socket:0", "socket:1", "pcie:3", "gpu:7")
    assert route.bandwidth == 6e9
    assert route.latency == pytest.approx(5.7e-6 + 2 * 150e-9 + 58e-9)


@pytest.mark.parametrize(
    ("layout", "near", "far", "bandwidth"),
    [("single-root", "PIX", "PHB", 12e9), ("dual-root", "PIX", "SYS", 6e9), ("cascaded", "PIX", "PXB", 12e9)],
)
def test_big_sur_layouts_differ_between_the_switches(layout: str, near: str, far: str, bandwidth: float) -> None:
    machine = big_sur(layout)
    for a, b in itertools.permutations(range(8), 2):
        same = a // 4 == b // 4
        assert code(machine, f"gpu:{a}", f"gpu:{b}") == (near if same else far)
        assert machine.route(f"gpu:{a}", f"gpu:{b}").bandwidth == (12e9 if same else bandwidth)


BYTES = 12_000_000


@pytest.mark.parametrize(
    ("layout", "passed", "seconds"),
    [
        # 12 MB at 12 GB/s; 5.7 us for the two GPUs, 150 ns for leaving each switch.
        ("single-root", "pcie:0 socket:0 pcie:1", 1e-3 + 5.7e-6 + 2 * 150e-9),
        # QPI halves the rate, and crossing it takes 58 ns.
        ("dual-root", "pcie:0 socket:0 socket:1 pcie:1", 2e-3 + 5.7e-6 + 2 * 150e-9 + 58e-9),
        # One hop between the switches, and no socket.
        ("cascaded", "pcie:0 pcie:1", 1e-3 + 5.7e-6 + 150e-9),
    ],
)
def test_swapping_the_pcie_layout_changes_what_one_transfer_takes(layout: str, passed: str, seconds: float) -> None:
    for source, target, nodes in (("gpu:0", "gpu:7", passed.split()), ("gpu:7", "gpu:0", passed.split()[::-1])):
        route = preset(f"big-sur-{layout}").route(source, target)
        assert route.nodes == (source, *nodes, target)
        assert route.time(BYTES) == pytest.approx(seconds, rel=1e-12)
    near = preset(f"big-sur-{layout}").route("gpu:0", "gpu:3")
    assert near.nodes == ("gpu:0", "pcie:0", "gpu:3"), "below one switch, no layout differs"
    assert near.time(BYTES) == pytest.approx(1e-3 + 5.7e-6, rel=1e-12)


@pytest.mark.parametrize(("layout", "passed"), [("single-root", 2), ("dual-root", 2), ("cascaded", 1)])
def test_layouts_differ_in_how_far_the_host_is(layout: str, passed: int) -> None:
    """In a cascade the second switch's GPUs reach the socket through the first switch's one uplink."""
    machine = preset(f"big-sur-{layout}")
    uplinks = {machine.route(f"gpu:{i}", "socket:0").links[-1].name for i in range(8)}
    assert len(uplinks) == passed


def test_big_sur_is_single_root_unless_told_otherwise() -> None:
    assert big_sur() == big_sur("single-root") == preset("big-sur")
    assert preset("big-sur-single-root").digest == preset("big-sur").digest
    assert preset("big-sur-cascaded") == big_sur("cascaded")
    assert len({big_sur(layout).digest for layout in LAYOUTS}) == len(LAYOUTS)
    with pytest.raises(OptionError, match=r"layout is 'dual-rot', expected one of .*did you mean 'dual-root'"):
        big_sur("dual-rot")


# As `nvidia-smi topo -m` prints it on the machine, where it says SOC for what is SYS today.
P100_MATRIX = """
X   NV1 NV1 NV1 NV1 SYS SYS SYS
NV1 X   NV1 NV1 SYS NV1 SYS SYS
NV1 NV1 X   NV1 SYS SYS NV1 SYS
NV1 NV1 NV1 X   SYS SYS SYS NV1
NV1 SYS SYS SYS X   NV1 NV1 NV1
SYS NV1 SYS SYS NV1 X   NV1 NV1
SYS SYS NV1 SYS NV1 NV1 X   NV1
SYS SYS SYS NV1 NV1 NV1 NV1 X
"""


def test_the_older_dgx1_has_single_links() -> None:
    machine = preset("dgx1-p100")
    rows = [line.split() for line in P100_MATRIX.strip().splitlines()]
    names = machine.device_names
    assert [[code(machine, a, b) for b in names] for a in names] == rows
    assert machine.route("gpu:0", "gpu:4").bandwidth == 18e9


@pytest.mark.parametrize(
    ("name", "shown", "bandwidth"),
    [
        ("dgx2", "NV6", 143.7e9),
        ("dgx-a100", "NV12", 240e9),
        ("dgx-h100", "NV18", 370.8e9),
        ("dgx-b200", "NV18", 721.8e9),
    ],
)
def test_nvswitches_join_all_pairs_alike(name: str, shown: str, bandwidth: float) -> None:
    machine = preset(name)
    for a, b in itertools.permutations(machine.device_names, 2):
        assert code(machine, a, b) == shown
        assert machine.route(a, b).nodes == (a, "nvswitch", b)
        assert machine.route(a, b).bandwidth == pytest.approx(bandwidth)
        assert machine.route(a, b).latency == pytest.approx(3.4e-6)


@pytest.mark.parametrize(
    ("name", "hops", "bandwidth"),
    [("dgx1-p100", 2, 12e9), ("dgx2", 4, 12e9), ("dgx-a100", 4, 24e9), ("dgx-h100", 3, 48e9), ("dgx-b200", 3, 48e9)],
)
def test_each_half_of_the_gpus_is_below_a_socket_of_its_own(name: str, hops: int, bandwidth: float) -> None:
    machine = preset(name)
    for i, gpu in enumerate(machine.device_names):
        route = machine.route(gpu, f"socket:{2 * i // len(machine.devices)}")
        assert len(route) == hops
        assert route.bandwidth == bandwidth


def test_consumer_gpus_are_staged_in_host_memory() -> None:
    machine = preset("rtx4090x4")
    for a, b in itertools.permutations(machine.device_names, 2):
        route = machine.route(a, b)
        assert route.nodes == (a, "socket:0", "memory:0", "socket:0", b)
        assert route.time(24_000_000) == pytest.approx(1e-3 + 5.7e-6 + 2 * 136e-9)


def test_the_mixed_box_has_a_bridge_and_slots_of_two_widths() -> None:
    machine = preset("rtx3090-3060")
    assert [device.kind for device in machine.devices] == ["rtx-3090"] * 2 + ["rtx-3060-12gb"] * 2
    assert machine.route("gpu:0", "gpu:1").nodes == ("gpu:0", "gpu:1")
    assert machine.route("gpu:0", "gpu:1").bandwidth == 48e9
    for a, b in (("gpu:0", "gpu:2"), ("gpu:3", "gpu:1"), ("gpu:2", "gpu:3")):
        assert machine.route(a, b).nodes == (a, "socket:0", "memory:0", "socket:0", b)
        assert machine.route(a, b).bandwidth == 12e9
