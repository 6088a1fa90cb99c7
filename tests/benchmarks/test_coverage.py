"""The coverage benchmark tells what fails in eager from what fails here, and makes small models by rule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks import coverage
from benchmarks._coverage_entry import Entry, Inputs
from benchmarks._coverage_generated import named


def rows(batch: int) -> Inputs:
    return (torch.ones(batch, 4),), {}


class Wide(nn.Module):
    """One that eager does not run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.ones(5, 5)


def never() -> nn.Module:
    raise TypeError("no such model")


@pytest.mark.parametrize("make", [Wide, never])
def test_what_eager_does_not_run_is_told_apart(make: type[nn.Module]) -> None:
    found = coverage.cover(Entry("one", "torch", make, rows), "forward", 1, "balanced")
    assert not found.runs
    assert not found.correct
    assert "not run by eager" in coverage.line(found)


def test_what_it_runs_is_compared() -> None:
    found = coverage.cover(Entry("one", "torch", lambda: nn.Linear(4, 2), rows), "training", 1, "balanced")
    assert found.runs
    assert found.correct
    assert found.ops > 0


def test_a_type_of_transformers_is_made_small() -> None:
    (bert,) = named(["transformers:bert"])
    model = bert.make()
    args, kwargs = bert.inputs(2)
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
    assert model(*args, **kwargs).logits.shape[0] == 2
