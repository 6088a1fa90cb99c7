"""Discovery by NVML, from what a stand-in for its module tells of machines that are documented."""

from __future__ import annotations

import itertools
import re
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest

from tests.placement.topology.discover.fake_nvml import GIB, FakeNvml, Gpu
from torchplace.errors import TopologyError
from torchplace.placement.topology import Topology
from torchplace.placement.topology.discover import nvml
from torchplace.placement.topology.draw.codes import Codes
from torchplace.placement.topology.presets import preset
from torchplace.placement.topology.presets.dgx1_v100 import CUBE_MESH


@pytest.fixture(autouse=True)
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "cpu_model", lambda: "Intel(R) Xeon(R) CPU E5-2698 v4 @ 2.20GHz")


def install(monkeypatch: pytest.MonkeyPatch, library: FakeNvml) -> FakeNvml:
    monkeypatch.setitem(sys.modules, "pynvml", library)  # type: ignore[arg-type]
    return library


def dgx1() -> FakeNvml:
    """A DGX-1 with V100: two GPUs a switch, two switches a socket, the cube mesh."""
    gpus = [Gpu() for _ in range(8)]
    for one, other, number in CUBE_MESH:
        gpus[one].links += [other] * number
        gpus[other].links += [one] * number
    return FakeNvml(gpus, lambda one, other: 10 if one // 2 == other // 2 else 30 if one // 4 == other // 4 else 50)


def hgx(name: str = "NVIDIA H100 80GB HBM3", memory: int = 81_559 * 2**20) -> FakeNvml:
    gpus = [Gpu(name, memory, 5, links=["switch"] * 18, version=6) for _ in range(8)]
    return FakeNvml(gpus, lambda one, other: 40 if one // 4 == other // 4 else 50)


def matrix(topology: Topology) -> list[list[str]]:
    codes = Codes(topology)
    return [[codes.of(one, other) for other in topology.device_names] for one in topology.device_names]


def test_a_dgx1_is_found_as_it_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    library = install(monkeypatch, dgx1())
    found, documented = Topology.resolve("nvml"), preset("dgx1-v100")
    assert found.devices == documented.devices
    assert matrix(found) == matrix(documented)
    for one, other in itertools.permutations(documented.device_names, 2):
        assert found.route(one, other).bandwidth == documented.route(one, other).bandwidth
        assert found.route(one, other).latency == pytest.approx(documented.route(one, other).latency)
    assert Counter(switch.kind for switch in found.switches) == Counter(s.kind for s in documented.switches)
    assert library.initialised == 0, "shut down as often as it was started"


def test_nvswitches_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, hgx())
    found, documented = nvml.discover(), preset("dgx-h100")
    assert found.devices == documented.devices
    assert matrix(found) == matrix(documented)
    assert found.route("gpu:0", "gpu:7").bandwidth == documented.route("gpu:0", "gpu:7").bandwidth
    assert len(found.route("gpu:0", "socket:0")) == 2  # the switch with its NIC is not NVML's


def test_nvswitches_are_found_where_the_driver_does_not_say_what_is_at_the_other_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = hgx()
    library.unsupported = ("nvmlDeviceGetNvLinkRemoteDeviceType", "nvmlDeviceGetNvLinkRemotePciInfo")
    install(monkeypatch, library)
    assert {code for row in matrix(nvml.discover()) for code in row} == {"X", "NV18"}


def test_consumer_gpus_have_no_peer_to_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [Gpu("NVIDIA GeForce RTX 4090", 24_564 * 2**20, 4, lanes=8) for _ in range(4)]
    install(monkeypatch, FakeNvml(gpus, peers=lambda one, other: False))
    found = nvml.discover()
    assert not any(device.peer_to_peer for device in found.devices)
    route = found.route("gpu:0", "gpu:3")
    assert route.nodes == ("gpu:0", "socket:0", "memory:0", "socket:0", "gpu:3")
    assert route.bandwidth == 12e9, "x8 of generation 4, as it is plugged in"
    assert found.devices[0].memory == 24_564 * 2**20


def test_a_patched_driver_that_offers_peer_to_peer_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [Gpu("NVIDIA GeForce RTX 4090", 24_564 * 2**20, 4) for _ in range(2)]
    install(monkeypatch, FakeNvml(gpus))
    found = nvml.discover()
    assert all(device.peer_to_peer for device in found.devices)
    assert found.route("gpu:0", "gpu:1").nodes == ("gpu:0", "socket:0", "gpu:1")


def test_bridged_pairs_in_a_box_without_peer_to_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [
        Gpu("NVIDIA GeForce RTX 3090", 24 * GIB, 4, links=[1] * 4),
        Gpu("NVIDIA GeForce RTX 3090", 24 * GIB, 4, links=[0] * 4),
    ]
    gpus.append(Gpu(b"NVIDIA GeForce RTX 3060", 12 * GIB, 4, lanes=8))  # old packages give bytes
    install(monkeypatch, FakeNvml(gpus, peers=lambda one, other: False))
    found = nvml.discover()
    assert found.route("gpu:0", "gpu:1").bandwidth == preset("rtx3090-3060").route("gpu:0", "gpu:1").bandwidth
    assert found.route("gpu:0", "gpu:2").bandwidth == preset("rtx3090-3060").route("gpu:0", "gpu:2").bandwidth
    assert [device.kind for device in found.devices] == ["rtx-3090", "rtx-3090", "rtx-3060-12gb"]


def test_a_link_that_is_down_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [Gpu(links=[1, None, 1]), Gpu(links=[0, None, 0])]
    install(monkeypatch, FakeNvml(gpus))
    assert matrix(nvml.discover())[0] == ["X", "NV2"]


def test_a_model_that_is_not_known_gets_nominal_figures_and_its_own_nvlink(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [Gpu("NVIDIA B900", 200 * GIB, 6, links=[other] * 2, version=7) for other in (1, 0)]
    install(monkeypatch, FakeNvml(gpus))
    with pytest.warns(UserWarning, match="GPU 'NVIDIA B900' with 200.0 GiB is not known"):
        found = nvml.discover()
    assert {device.kind for device in found.devices} == {"b900"}
    assert {device.memory for device in found.devices} == {200 * GIB}
    assert found.route("gpu:0", "gpu:1").bandwidth == 2 * 40.1e9
    assert found.route("gpu:0", "socket:0").bandwidth == 96e9


def test_mig_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml([Gpu("NVIDIA H200", 143_771 * 2**20, 5, mig=True)]))
    with pytest.warns(UserWarning, match=r"gpu:0 \(NVIDIA H200\) is in MIG mode: it is taken as a whole"):
        assert nvml.discover().device_names == ("gpu:0",)


def test_without_levels_cpu_affinities_tell_of_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    library = dgx1()
    for number, gpu in enumerate(library.gpus):
        gpu.affinity, gpu.links = 0xFF << 8 * (number // 4), []
    library.unsupported = ("nvmlDeviceGetTopologyCommonAncestor",)
    install(monkeypatch, library)
    rows = matrix(nvml.discover())
    assert rows[0] == ["X", "PHB", "PHB", "PHB", "SYS", "SYS", "SYS", "SYS"]


def test_a_driver_that_tells_little_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    library = dgx1()
    library.unsupported = tuple(
        name
        for name in dir(FakeNvml)
        if name.startswith("nvmlDevice")
        and name not in ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo",
                         "nvmlDeviceGetPciInfo")
    )  # fmt: skip
    install(monkeypatch, library)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = nvml.discover()
    assert found.devices == preset("dgx1-v100").devices
    assert len(found.switches) == 8, "nothing is known to join them but sockets"


def test_some_gpus_by_uuid_in_the_order_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, dgx1())
    found = nvml.discover("local", ["00000003-0000", "GPU-00000000-0000"], prefix="cuda")
    assert found.device_names == ("cuda:0", "cuda:1")
    assert [device.torch_device for device in found.devices] == ["cuda:0", "cuda:1"]
    assert matrix(found)[0] == ["X", "NV2"]  # GPUs 3 and 0
    with pytest.raises(TopologyError, match="NVML knows no GPU with the UUID 'MIG-7'"):
        nvml.discover("local", ["MIG-7"])


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(TopologyError, match=r"package nvidia-ml-py; install it, or torchplace\[nvidia\]"):
        nvml.discover()
    install(monkeypatch, FakeNvml([], failures={"nvmlInit": "Driver Not Loaded"}))
    with pytest.raises(TopologyError, match="NVML cannot be used: Driver Not Loaded; is NVIDIA's driver here"):
        nvml.discover()
    install(monkeypatch, FakeNvml([]))
    with pytest.raises(TopologyError, match="NVML finds no GPU on this machine"):
        nvml.discover()
    library = install(monkeypatch, FakeNvml([Gpu()], failures={"nvmlDeviceGetMemoryInfo": "GPU is lost"}))
    with pytest.raises(TopologyError, match="NVML stopped with: GPU is lost"):
        nvml.discover()
    assert library.initialised == 0


def test_the_real_package_has_what_is_asked_of_the_stand_in() -> None:
    real = pytest.importorskip("pynvml")
    asked = set(re.findall(r"\bnvml[A-Z]\w+", Path(nvml.__file__).read_text(encoding="utf-8")))
    asked -= {"nvmlGpuTopologyLevel_t", "nvmlGpuP2PCapsIndex_t", "nvmlNvLinkDeviceType_t", "nvmlDeviceGet"}
    asked |= {"nvmlDeviceGetMaxPcieLinkWidth", "nvmlDeviceGetCurrPcieLinkWidth"}
    assert len(asked) > 15
    assert {name for name in asked if not hasattr(real, name)} == set()
    assert {name for name in asked if not hasattr(FakeNvml, name)} == set()
    assert (real.NVML_NVLINK_DEVICE_TYPE_SWITCH, real.NVML_P2P_STATUS_OK, real.NVML_FEATURE_ENABLED) == (2, 0, 1)
    assert real.NVML_TOPOLOGY_NODE == 40
    assert issubclass(real.NVMLError, Exception)
