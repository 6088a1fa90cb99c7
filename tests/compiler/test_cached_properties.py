"""Models with cached properties are captured whole, and their properties are kept as eager keeps them."""

from __future__ import annotations

import functools
import threading

import torch
from torch import nn

import torchplace as tp
from torchplace.compiler.cached_properties import unlocked_properties


class Sizes:
    def __init__(self) -> None:
        self.asked = 0

    @functools.cached_property
    def factor(self) -> int:
        self.asked += 1
        return 3


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sizes, self.layer = Sizes(), nn.Linear(4, 4)

    @functools.cached_property
    def padding(self) -> int:
        return 2

    @functools.cached_property
    def table(self) -> torch.Tensor:
        return torch.arange(4.0) * self.padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x) * self.sizes.factor + self.table
        return nn.functional.pad(y, (self.padding, 0))


def test_models_with_cached_properties_are_captured_whole() -> None:
    model, x = Model(), torch.randn(2, 4)
    reference = Model()
    reference.load_state_dict(model.state_dict())
    placed = tp.compile(model, topology="local:2", solver="random", cost="roofline")
    for _ in range(3):
        assert torch.equal(placed(x), reference(x))
    assert [plan.broken for plan in tp.plans(placed)] == [""] * len(tp.plans(placed))
    assert len(tp.plans(placed)) <= 2, "once more when the properties are there"
    assert model.sizes.asked == reference.sizes.asked == 1
    assert torch.equal(model.__dict__["table"], reference.__dict__["table"])


def test_properties_are_as_they_were_behind_it() -> None:
    before = functools.cached_property.__get__
    with unlocked_properties():
        assert Sizes().factor == 3
        assert isinstance(Sizes.factor, functools.cached_property)
    assert functools.cached_property.__get__ is before
    both = Sizes()
    threads = [threading.Thread(target=lambda: both.factor) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert both.asked == 1
