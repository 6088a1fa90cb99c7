"""The same model twice, once as eager runs it and once placed: each must give what the other gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import torchplace as tp

Make = Callable[[], nn.Module]
ROWS = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


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


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def trained(model: nn.Module, *args: Any) -> list[torch.Tensor | None]:
    """The output, then gradients of parameters and of what the caller gave, then buffers."""
    model.zero_grad()
    given = [a.detach().requires_grad_() if a.is_floating_point() else a for a in args]
    output = model(*given)
    output.float().square().mean().backward()
    gradients = [p.grad for p in (*model.parameters(), *given) if p.requires_grad]
    return [output.detach(), *gradients, *(b.clone() for b in model.buffers())]


class Square(torch.autograd.Function):
    """A function with a backward of its own, which needs what the forward saves."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * gradient
