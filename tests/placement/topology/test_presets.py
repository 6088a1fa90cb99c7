"""What any preset must satisfy, and the facts of each machine."""

from __future__ import annotations

import itertools

import pytest

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import Topology
from torchplace.placement.topology.draw import code
from torchplace.placement.topology.presets import PRESETS, preset
from torchplace.placement.topology.presets.big_sur import LAYOUTS, big_sur

MACHINES = {**{name: preset(name) for name in PRESETS}, **{f"big-sur {x}": big_sur(x) for x in LAYOUTS}}


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Topology:
    return MACHINES[request.param]


def test_names() -> None:
    assert list(PRESETS) == ["big-sur", "dgx1-v100"]
    for name in PRESETS:
        assert Topology.preset(name).name == name


def test_unknown_presets_list_the_known() -> None:
    with pytest.raises(TopologyError, match=r"'dgx-v100'; did you mean 'dgx1-v100'\? \(presets: big-sur, dgx1-v100\)"):
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


def test_figures_have_their_order_of_magnitude(machine: Topology) -> None:
    assert len(machine.devices) == 8
    for device in machine.devices:
        assert 8 * 2**30 < device.memory < 64 * 2**30
        assert 1e12 < device.peak("float32") < 1e14
        assert device.peak("float64") < device.peak("float32") <= device.peak("float16")
        assert device.peak("bfloat16") == device.peak("float32")
        assert 1e11 < device.memory_bandwidth < 1e12
        assert device.torch_device == device.name.replace("gpu", "cuda")


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


def test_big_sur_is_single_root_unless_told_otherwise() -> None:
    assert big_sur() == big_sur("single-root") == preset("big-sur")
    assert len({big_sur(layout).digest for layout in LAYOUTS}) == len(LAYOUTS)
    with pytest.raises(OptionError, match=r"layout is 'dual-rot', expected one of .*did you mean 'dual-root'"):
        big_sur("dual-rot")
