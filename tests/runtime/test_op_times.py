"""Ops are timed on the device, one by one, and kept; nothing larger is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.placement.cost.measured import Measured
from torchplace.placement.cost.signature import signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.topology import Topology
from torchplace.placement.topology.figures import CpuFigures, write_figures
from torchplace.placement.topology.local import pair_threads
from torchplace.runtime import op_times
from torchplace.runtime.op_times import measure_ops, sorts, undisturbed


class Net(nn.Module):
    """A product, a norm that writes its buffers, a random op, and an integer index."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.table = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Embedding(5, 8)

    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """[n, 8], [n] -> [n, 8]."""
        return torch.dropout(self.norm(self.a(x) + self.table(rows)), 0.5, True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))
    monkeypatch.setattr(op_times, "LEAST_SECONDS", 0.0)


@pytest.fixture
def captured() -> Captured:
    return capture_dry(Net(), (torch.randn(4, 8), torch.tensor([4, 0, 1, 2])), {}, training=True)[0]


def test_every_op_is_timed_on_every_sort_of_device(captured: Captured) -> None:
    topology, store = Topology.local(2), CostStore()
    told: list[tuple[str, float]] = []
    written = measure_ops(captured, topology, store, on_progress=lambda what, done: told.append((what, done)))
    keys = {signature_key(op) for part in captured.parts for op in part.ops}
    for device in sorts(topology):
        known = store.seconds(DeviceKey.of(device))
        assert set(known) == keys
        assert all(0 <= seconds < 1 for seconds in known.values())
    assert written == len(sorts(topology)) * len(keys)
    assert told[-1][1] == 1.0
    cost = Measured(store)
    for op in captured.graph.ops:
        cost.time(op, sorts(topology)[0])
    assert not cost.missing
    assert measure_ops(captured, topology, store) == 0, "nothing is timed twice"


def test_the_model_is_as_it_was(captured: Captured) -> None:
    held = {name: value for name, value in captured.examples.items() if isinstance(value, torch.Tensor)}
    before = {name: tensor.detach().clone() for name, tensor in held.items()}
    assert len(held) > 5
    measure_ops(captured, Topology.local(1), CostStore())
    assert all(torch.equal(before[name], tensor) for name, tensor in held.items())


def test_an_interrupt_keeps_what_was_measured(captured: Captured) -> None:
    store = CostStore()

    def interrupt(what: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_ops(captured, Topology.local(1), store, on_progress=interrupt)
    (device,) = sorts(Topology.local(1))
    assert {s.samples % op_times.IN_A_ROW for s in store.samples(DeviceKey.of(device))} == {0}
    assert len(store.seconds(DeviceKey.of(device))) > 10


def test_times_are_kept_for_the_pace_of_the_calibration(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference workload takes a thousandth of what it took when this machine was calibrated."""
    (device,) = sorts(Topology.local(1))
    stores = [CostStore(CostStore().path.parent / name) for name in ("plain", "scaled")]
    measure_ops(captured, Topology.local(1), stores[0])
    write_figures(pair_threads(), CpuFigures(reference=1.0))
    monkeypatch.setattr(op_times, "reference_seconds", lambda: 1e-3)
    measure_ops(captured, Topology.local(1), stores[1])
    plain, scaled = (sum(s.seconds(DeviceKey.of(device)).values()) for s in stores)
    assert 100 < scaled / plain < 10_000


def test_one_sort_for_each_number_of_threads_that_devices_may_get() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert [device.threads for device in sorts(Topology.local(4))] == [4, 2, 1]
        assert [device.threads for device in sorts(Topology.local(2, threads=3))] == [3]
    finally:
        torch.set_num_threads(before)


def test_the_middle_half_of_repetitions_counts_with_what_disturbs_every_step() -> None:
    """Each run has one op that is disturbed, another each time: no op's median shows it, the sum of the means does."""
    runs = [[1.0 + 4.0 * (place == number % 4) for place in range(4)] for number in range(8)] + [[50.0] * 4]
    kept = undisturbed(runs)
    assert [sum(run) for run in kept] == [8.0] * len(kept)
    assert undisturbed([[3.0]]) == [[3.0]]
    assert not undisturbed([])
