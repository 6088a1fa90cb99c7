"""Fitted costs: unseen shapes of a family that was measured, and what stands in for one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compiler.graphs import Builder
from torchplace.compiler.graph import Op
from torchplace.placement.cost.families import family_of, kind_of
from torchplace.placement.cost.features import features
from torchplace.placement.cost.fitted import LEAST, Fitted
from torchplace.placement.cost.measured import Measured
from torchplace.placement.cost.signature import signature, signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey, Sample
from torchplace.placement.topology import Device

DEVICE = Device("d", "toy", 2**30, {"float32": 1e9}, 1e9, 1e-6)


def product(m: int, k: int = 64, n: int = 64, target: str = "aten.mm.default") -> Op:
    b = Builder()
    made = b.many(target, b.input("x", m, k), b.input("w", k, n), shapes=[(m, n)])
    made.flops = 2 * m * k * n
    return made


def law(op: Op) -> float:
    """Two microseconds, and 10 GFLOP/s."""
    return 2e-6 + op.flops / 1e10


def sample(op: Op) -> Sample:
    return Sample(signature_key(op), signature(op), op.target, features(op), law(op), 9)


@pytest.fixture
def store(tmp_path: Path) -> CostStore:
    found = CostStore(tmp_path / "costs.sqlite")
    found.write(DeviceKey.of(DEVICE), [sample(product(m)) for m in (8, 16, 40, 64, 100, 256, 600, 1024, 3000, 8192)])
    return found


def test_unseen_shapes_follow_the_law_of_their_family(store: CostStore) -> None:
    cost = Fitted(store)
    for m in (12, 200, 5000):
        assert cost.time(product(m), DEVICE) == pytest.approx(law(product(m)), rel=0.1)
    assert cost.error([product(m) for m in (12, 200)], DEVICE) < 0.1


def test_the_error_of_every_regression_is_told(store: CostStore) -> None:
    fits = {fit.name: fit for fit in Fitted(store).fits(DEVICE)}
    assert fits["aten.mm"].samples == 10 >= LEAST
    assert fits["aten.mm"].error < 0.1
    assert "kind products" in fits


def test_a_family_without_samples_is_judged_by_its_kind(store: CostStore) -> None:
    other = product(200, target="aten.addmm.default")
    assert kind_of(other.target, features(other)) == kind_of("aten.mm.default", features(product(8))) == "products"
    assert Fitted(store).time(other, DEVICE) == pytest.approx(law(other), rel=0.5)


def test_a_sort_of_device_that_was_never_measured_has_the_fallback(store: CostStore) -> None:
    stranger = Device("e", "other", 2**30, {"float32": 1e9}, 1e9, 1e-6)
    op = product(64)
    assert Fitted(store).time(op, stranger) == pytest.approx(1e-6 + op.flops / 1e9, rel=0.5)


def test_what_was_measured_comes_first(store: CostStore) -> None:
    cost = Measured(store, Fitted(store), name="fitted")
    assert cost.time(product(100), DEVICE) == law(product(100))
    assert not cost.missing
    assert cost.time(product(101), DEVICE) > 0
    assert cost.missing == {signature_key(product(101))}


def test_dtypes_are_families_of_their_own() -> None:
    single = features(product(8))
    assert family_of("aten.mm.default", single) == "aten.mm"
    assert family_of("aten.mm.default", {**single, "item": 2.0}) == "aten.mm/float16"
    assert family_of("aten.add.Tensor", {**single, "item": 8.0, "whole": 1.0}) == "aten.add/int"
