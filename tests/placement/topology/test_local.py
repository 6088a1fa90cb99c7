from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology import Topology, local
from torchplace.placement.topology.local import CpuFigures, machine_memory, pair_threads, write_figures


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


def pretend(monkeypatch: pytest.MonkeyPatch, count: int, kind: str = "cuda", memory: int | None = 5 << 30) -> None:
    module = SimpleNamespace()
    if memory is not None:
        module.get_device_properties = lambda index: SimpleNamespace(total_memory=memory + index)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("n", [1, 2, 3, 64])
def test_cpu_devices(n: int) -> None:
    machine = Topology.local(n)
    assert machine.device_names == tuple(f"cpu:{i}" for i in range(n))
    nominal = CpuFigures.nominal(max(1, torch.get_num_threads() // n))
    for device in machine.devices:
        assert (device.kind, device.torch_device, device.threads) == ("cpu", "cpu", None)
        assert device.memory == machine_memory() // n
        assert device.peak("float32") == nominal.peak_flops
    assert [switch.kind for switch in machine.switches] == ["host-memory"]
    if n > 1:
        route = machine.route("cpu:0", f"cpu:{n - 1}")
        assert route.latency == pytest.approx(nominal.transfer_latency)
        assert route.bandwidth == nominal.transfer_bandwidth


@pytest.mark.usefixtures("no_accelerator")
def test_two_devices_by_default_and_the_same_digest_each_time() -> None:
    assert Topology.local() == Topology.local(2)
    assert Topology.local(2).digest != Topology.local(3).digest
    assert Topology.from_dict(Topology.local(3).to_dict()) == Topology.local(3)


@pytest.mark.usefixtures("no_accelerator")
def test_measured_figures_take_the_place_of_nominal_ones() -> None:
    before = Topology.local(2, threads=3)
    write_figures(3, CpuFigures(peak_flops=123e9))
    write_figures(pair_threads(), CpuFigures(transfer_latency=8e-6, transfer_bandwidth=7e9, wake=3e-6))
    after = Topology.local(2, threads=3)
    assert after.device("cpu:1").peak("float32") == 123e9
    assert after.device("cpu:1").threads == 3
    assert after.route("cpu:0", "cpu:1").time(7e9) == pytest.approx(1 + 8e-6)
    assert after.host.wake == 3e-6, "what the host adds was measured on two devices"
    assert after.digest == before.digest, "measuring again keeps plans valid"
    assert Topology.local(2, threads=2).device("cpu:0").peak("float32") != 123e9


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2", None])
def test_a_count_is_a_whole_number_above_zero(n: object) -> None:
    with pytest.raises(OptionError, match=r"n is .*, expected a whole number above 0"):
        Topology.local(n)  # type: ignore[arg-type]


def test_threads_too() -> None:
    with pytest.raises(OptionError, match="threads is 0"):
        Topology.local(2, threads=0)


def test_accelerators_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 4)
    machine = Topology.local(3)
    assert machine.device_names == ("cuda:0", "cuda:1", "cuda:2")
    assert [device.torch_device for device in machine.devices] == list(machine.device_names)
    assert [device.memory for device in machine.devices] == [(5 << 30) + i for i in range(3)]
    assert machine.route("cuda:0", "cuda:2").nodes == ("cuda:0", "socket:0", "cuda:2")


def test_too_few_accelerators_leave_cpu_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1)
    assert Topology.local(1).device_names == ("cuda:0",)
    assert Topology.local(2).device_names == ("cpu:0", "cpu:1")


def test_an_accelerator_without_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1, kind="mps", memory=None)
    machine = Topology.local(1)
    assert machine.device_names == ("mps:0",)
    assert machine.device("mps:0").memory == machine_memory()


def test_a_container_has_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(local, "_CGROUP_LIMITS", (str(tmp_path / "no"), str(limit)))
    physical = machine_memory()
    limit.write_text("max\n")
    assert machine_memory() == physical
    limit.write_text("9223372036854771712\n")
    assert machine_memory() == physical
    limit.write_text("1048576\n")
    assert machine_memory() == 1 << 20


def test_a_machine_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    with pytest.raises(TopologyError, match="memory of this machine is unknown here; give a topology file"):
        machine_memory()


@pytest.mark.usefixtures("no_accelerator")
def test_devices_share_the_threads_of_torch() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        machine, own = Topology.local(3), Topology.local(3, threads=2)
    finally:
        torch.set_num_threads(before)
    assert [machine.used(names).device("cpu:0").threads for names in ((), ("cpu:0",), ("cpu:0", "cpu:2"))] == [4, 4, 2]
    assert machine.used(machine.device_names).device("cpu:2").threads == 1
    assert machine.used(("cpu:1",)).device("cpu:1").peak("float32") == 4 * machine.device("cpu:1").peak("float32")
    assert machine.used(("cpu:1",)).digest == machine.digest
    assert machine.used(("cpu:1",)).route("cpu:0", "cpu:2") is machine.route("cpu:0", "cpu:2")
    assert own.used(("cpu:0",)) is own, "threads that were asked for stay"
