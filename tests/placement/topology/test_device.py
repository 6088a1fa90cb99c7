from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from torchplace.errors import TopologyError
from torchplace.placement.topology import Device, Switch


def make(**changes: Any) -> Device:
    fields: dict[str, Any] = {
        "name": "gpu:0",
        "kind": "m40",
        "memory": 12 * 2**30,
        "peak_flops": {"float32": 7e12, "float16": 14e12},
        "memory_bandwidth": 288e9,
        "launch_overhead": 5e-6,
    }
    return Device(**{**fields, **changes})


def test_fields_and_defaults() -> None:
    device = make()
    assert (device.torch_device, device.threads, device.peer_to_peer) == ("cpu", None, True)
    assert device == make()
    assert hash(device) == hash(make())
    assert pickle.loads(pickle.dumps(device)) == device
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.memory = 1  # type: ignore[misc]


def test_peaks_are_copied() -> None:
    peaks = {"float32": 1e12}
    device = make(peak_flops=peaks)
    peaks["float32"] = 2e12
    assert device.peak("float32") == 1e12


@pytest.mark.parametrize(
    ("peaks", "dtype", "expected"),
    [
        ({"float32": 8.0, "float16": 16.0}, "float16", 16.0),
        ({"float32": 8.0, "float16": 16.0}, "torch.float16", 16.0),
        ({"float32": 8.0, "float16": 16.0}, "bfloat16", 8.0),
        ({"float32": 8.0, "float16": 16.0}, "int64", 8.0),
        ({"float32": 8.0}, "float64", 4.0),
        ({"float32": 8.0}, "complex128", 4.0),
        ({"float32": 8.0, "float64": 1.0}, "complex128", 1.0),
        ({"float32": 8.0, "float64": 1.0}, "complex64", 8.0),
        ({"float16": 16.0, "int8": 32.0}, "float32", 16.0),
        ({"float16": 16.0, "int8": 32.0}, "float64", 16.0),
    ],
)
def test_peak_falls_back(peaks: dict[str, float], dtype: str, expected: float) -> None:
    assert make(peak_flops=peaks).peak(dtype) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "gpu 0"),
        ("name", ":0"),
        ("name", None),
        ("kind", " "),
        ("memory", 0),
        ("memory", -1),
        ("memory", 1.5),
        ("memory", True),
        ("peak_flops", {}),
        ("peak_flops", 1e12),
        ("peak_flops", {"float32": 0.0}),
        ("peak_flops", {"float32": float("nan")}),
        ("memory_bandwidth", 0),
        ("memory_bandwidth", float("inf")),
        ("memory_bandwidth", "fast"),
        ("launch_overhead", -1e-6),
        ("launch_overhead", None),
        ("torch_device", "GPU 0"),
        ("torch_device", ""),
        ("torch_device", 0),
        ("threads", 0),
        ("threads", 1.0),
        ("peer_to_peer", 1),
        ("peer_to_peer", None),
    ],
)
def test_wrong_values_are_named(field: str, value: object) -> None:
    with pytest.raises(TopologyError) as caught:
        make(**{field: value})
    assert field in str(caught.value)
    shown = next(iter(value.values()), value) if isinstance(value, dict) else value
    assert repr(shown) in str(caught.value)
    assert "expected" in str(caught.value)


def test_zero_overhead_and_threads_are_allowed() -> None:
    device = make(launch_overhead=0, threads=3, torch_device="privateuseone:1")
    assert (device.launch_overhead, device.threads) == (0, 3)


@pytest.mark.parametrize(("name", "kind"), [("a b", "pcie-switch"), ("pcie:0", "")])
def test_a_switch_checks_its_fields(name: str, kind: str) -> None:
    assert Switch("pcie:0", "pcie-switch").kind == "pcie-switch"
    with pytest.raises(TopologyError, match="switch"):
        Switch(name, kind)


def test_a_dtype_has_a_name() -> None:
    with pytest.raises(TopologyError, match="a dtype of peak_flops is ''"):
        make(peak_flops={"": 1.0})
