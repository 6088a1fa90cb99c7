"""The calibration set fills a store with ops of many families, copies no model, and goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torchplace.placement.cost.families import kind_of
from torchplace.placement.cost.fitted import Fitted
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.topology import Topology
from torchplace.runtime import op_times
from torchplace.runtime.calibration_set import CALIBRATION, MARK, bundles, fill_store
from torchplace.runtime.op_times import sorts

SMALL = tuple(entry for entry in CALIBRATION if entry.name in ("losses", "masks"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))
    monkeypatch.setattr(op_times, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(op_times, "ROUNDS", 1)


def test_a_store_is_filled_once() -> None:
    topology, store, told = Topology.local(1), CostStore(), list[str]()
    (device,) = sorts(topology)
    assert fill_store(topology, store, entries=SMALL, on_progress=lambda what, done: told.append(what)) > 50
    assert told == ["calibrating: losses", "calibrating: masks"]
    assert fill_store(topology, store, entries=SMALL) == 0
    assert fill_store(topology, store, entries=SMALL[:1]) == 0
    samples = [s for s in store.samples(DeviceKey.of(device)) if not s.target.startswith(MARK)]
    assert len({kind_of(s.target, s.features) for s in samples}) >= 4
    assert all(fit.error >= 0 for fit in Fitted(store).fits(device))


def test_the_set_is_the_same_every_time() -> None:
    one, other = (next(iter(bundles(SMALL))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one[2], other[2], strict=True))
    assert one[1].state_dict().keys() == other[1].state_dict().keys()
