"""Accelerators that torch sees: their models by name, their links by NVML where that is here."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from tests.placement.topology.discover.fake_nvml import FakeNvml, Gpu
from torchplace.placement.topology import Topology

GIB = 2**30


def pretend(monkeypatch: pytest.MonkeyPatch, *properties: SimpleNamespace, kind: str = "cuda") -> None:
    """Lets torch see accelerators."""
    module = SimpleNamespace(get_device_properties=lambda index: properties[index])
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: len(properties))
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)


def v100(number: int) -> SimpleNamespace:
    return SimpleNamespace(name="Tesla V100-SXM2-16GB", total_memory=16_152 * 2**20, uuid=f"{number:08d}-0000")


def test_torch_and_nvml_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES may leave GPUs out and change their order: UUIDs tell which ones they are."""
    gpus = [Gpu() for _ in range(4)]
    gpus[3].links, gpus[1].links = [1, 1], [3, 3]
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(gpus))  # type: ignore[arg-type]
    pretend(monkeypatch, v100(3), v100(1), v100(0))
    machine = Topology.local(3)
    assert machine.name == "local"
    assert machine.device_names == ("cuda:0", "cuda:1", "cuda:2")
    assert {device.kind for device in machine.devices} == {"v100-sxm2-16gb"}
    assert machine.route("cuda:0", "cuda:1").nodes == ("cuda:0", "cuda:1")
    assert machine.route("cuda:0", "cuda:2").nodes == ("cuda:0", "socket:0", "cuda:2")


def test_without_nvml_models_are_known_by_name_and_links_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    pretend(monkeypatch, v100(0), v100(1))
    with pytest.warns(UserWarning, match=r"nvidia-ml-py.*until then nothing is known of NVLinks and PCIe switches"):
        machine = Topology.local(2)
    assert machine.devices[0].peak("float16") == 125e12
    assert machine.route("cuda:0", "cuda:1").nodes == ("cuda:0", "socket:0", "cuda:1")


def test_one_gpu_needs_no_nvml(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    pretend(monkeypatch, v100(0))
    assert Topology.local(1).devices[0].kind == "v100-sxm2-16gb"
    assert not recwarn.list


def test_consumer_gpus_are_staged_without_nvml_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpu = SimpleNamespace(name="NVIDIA GeForce RTX 4090", total_memory=24 * GIB, uuid="0")
    pretend(monkeypatch, gpu, gpu)
    with pytest.warns(UserWarning, match="below one host bridge"):
        assert "memory:0" in Topology.local(2).route("cuda:0", "cuda:1").nodes


def test_another_maker_gets_nominal_figures_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(name="Some GPU Max 1550", total_memory=64 * GIB)
    pretend(monkeypatch, gpu, gpu, kind="xpu")
    with pytest.warns(UserWarning, match="GPU 'Some GPU Max 1550' with 64.0 GiB is not known"):
        machine = Topology.local(2)
    assert machine.device_names == ("xpu:0", "xpu:1")
    assert {device.kind for device in machine.devices} == {"some-gpu-max-1550"}
    assert machine.devices[0].memory == 64 * GIB
