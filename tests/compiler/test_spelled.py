"""Numbers that hang on values, in texts that are keys, and the names of modules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchplace as tp

pytestmark = pytest.mark.usefixtures("forgotten")
Way = Callable[["Net", Tensor, Tensor], Tensor]


class Net(nn.Module):
    """Layers by number, and by name."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.listed = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.named = nn.ModuleDict({f"layer_{i}": layer for i, layer in enumerate(self.listed)})

    def forward(self, x: Tensor, number: Tensor) -> Tensor:
        return self.way(self, x, number)


def of_a_tensor(net: Net, x: Tensor, number: Tensor) -> Any:
    return net.named[f"layer_{number[0]}"](x)


def of_a_number(net: Net, x: Tensor, number: Tensor) -> Any:
    return net.named["layer_" + str(int(number[0]))](x)


def of_both(net: Net, x: Tensor, number: Tensor) -> Any:
    return net.named[f"{'layer'}_{number[0]}"](x) * len(f"{x.shape[0]}")


def of_an_attribute(net: Net, x: Tensor, number: Tensor) -> Any:
    return getattr(net.named, f"layer_{int(number[0])}")(x)


def by_a_tensor(net: Net, x: Tensor, number: Tensor) -> Any:
    return net.listed[number](x)


@pytest.mark.parametrize("way", [of_a_tensor, of_a_number, of_both, of_an_attribute, by_a_tensor])
def test_a_number_in_a_name_is_known(way: Way) -> None:
    eager = Net(way)
    placed = tp.compile(copy.deepcopy(eager), topology="local:2", solver="random", fullgraph=True)
    for i in (0, 2, 0):
        x = torch.randn(5, 4)
        torch.testing.assert_close(placed(x, torch.tensor([i])), eager(x, torch.tensor([i])))
    assert len(tp.plans(placed)) == 2


@pytest.mark.filterwarnings("ignore:something of")
def test_a_text_with_a_fraction_in_it_breaks_the_graph() -> None:
    def fraction(net: Net, x: Tensor, number: Tensor) -> Any:
        try:
            return net.named[f"layer_{x.sum():.0f}"](x)
        except KeyError:
            return x

    eager = Net(fraction)
    placed = tp.compile(copy.deepcopy(eager), topology="local:2", solver="random")
    for x in (torch.full((1, 4), 0.25), torch.full((1, 4), 0.5), torch.ones(1, 4)):
        torch.testing.assert_close(placed(x, torch.tensor([0])), eager(x, torch.tensor([0])))
