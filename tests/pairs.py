"""The same model twice, once as eager runs it and once placed: each must give what the other gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import torchplace as tp

Make = Callable[[], nn.Module]


def twice(make: Make) -> list[nn.Module]:
    """Two models, made from the same seed."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(make())
    return models


def pair(make: Make, **options: Any) -> tuple[nn.Module, nn.Module]:
    """The same model twice, in eager and placed on two devices."""
    eager, placed = twice(make)
    return eager, tp.compile(placed, **{"topology": "local:2", "solver": "random", "seed": 2, **options})


class Square(torch.autograd.Function):
    """A function with a backward of its own, which needs what the forward saves."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * gradient
