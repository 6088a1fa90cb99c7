"""Running beside eager: differences are found, and said."""

from __future__ import annotations

import copy

import torch
from torch import nn

import torchplace as tp
from torchplace.runtime.rehearsal import measure

X = torch.ones(3, 4)


def test_a_right_model_shows_no_difference() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    found = measure(
        model, (X,), {}, lambda m: tp.compile(m, topology="local:2", solver="round-robin"), training=True, steps=1
    )
    assert found.output_difference < 1e-6
    assert found.gradient_difference is not None
    assert found.gradient_difference < 1e-6
    assert "largest difference" in str(found)
    assert found.to_dict()["steps"] == 1


def test_a_wrong_model_shows_how_wrong() -> None:
    model = nn.Linear(4, 4)

    def wrong(m: nn.Linear) -> nn.Linear:
        with torch.no_grad():
            m.bias += 0.5
        return m

    found = measure(model, (X,), {}, wrong, training=False, steps=1)
    assert abs(found.output_difference - 0.5) < 1e-6
    assert found.gradient_difference is None


def test_missing_gradients_are_an_infinite_difference() -> None:
    model = nn.Linear(4, 4)

    def frozen(m: nn.Linear) -> nn.Linear:
        copied = copy.deepcopy(m)
        copied.bias.requires_grad_(False)
        return copied

    assert measure(model, (X,), {}, frozen, training=True, steps=1).gradient_difference == float("inf")
