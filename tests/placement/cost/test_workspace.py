from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.compiler.graphs import Builder
from torchplace import Topology
from torchplace.compiler.graph import Op
from torchplace.placement.cost.signature import signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.cost.workspace import Workspaces, estimated
from torchplace.placement.topology import Device

CPU = Topology.local(1, threads=2).devices[0]
GPU = replace(CPU, name="gpu:0", kind="V100", threads=None)


def norm() -> Op:
    b = Builder()
    x, w = b.input("x", 4, 8), b.parameter("w", 8)
    arguments = (x, x, [8], b.input("mean", 4, 1), b.input("rstd", 4, 1), w, w, [True, True, True])
    return b.many("aten.native_layer_norm_backward.default", *arguments, shapes=[(4, 8), (8,), (8,)])


@pytest.mark.parametrize(("device", "expected"), [(CPU, 2 * 2 * 8 * 4), (replace(CPU, threads=1), 2 * 8 * 4), (GPU, 0)])
def test_by_formula_on_a_cpu_and_nothing_elsewhere(device: Device, expected: int) -> None:
    op = norm()
    assert [estimated(op, device) for _ in range(2)] == [expected] * 2


def test_what_was_measured_goes_before(tmp_path: Path) -> None:
    store, op = CostStore(tmp_path / "costs.sqlite"), norm()
    assert Workspaces(store)(op, CPU) == estimated(op, CPU), "an empty store knows nothing"
    store.write_workspaces(DeviceKey.of(CPU), {signature_key(op): 1000, "other": 7})
    store.write_workspaces(DeviceKey.of(GPU), {signature_key(op): 3})
    store.write_workspaces(DeviceKey.of(CPU), {signature_key(op): 2000})
    assert store.workspaces(DeviceKey.of(CPU)) == {signature_key(op): 2000, "other": 7}
    found = Workspaces(store)
    assert [found(op, device) for device in (CPU, GPU, replace(CPU, threads=1))] == [2000, 3, 64]
