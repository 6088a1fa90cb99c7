"""What would have to look at a value while it is traced breaks the graph, and is no error."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import torchplace as tp
from torchplace.compiler import foresight

pytestmark = pytest.mark.usefixtures("forgotten")


class Listed(nn.Module):
    """Makes a list of as many numbers as there happen to be."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> Any:
        rows = self.first(x)
        places = (x[:, 0] > 0).nonzero()[:, 0]
        return self.last(rows) * sum(places.tolist())


def test_a_list_of_unknown_length_breaks_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "MOST_EXPECTED", 0)
    monkeypatch.setattr(foresight, "MOST_UNEXPECTED", 0)
    torch.manual_seed(0)
    model = Listed()
    placed = tp.compile(copy.deepcopy(model), topology="local:2", solver="random")
    for rows in (5, 5, 8):
        x = torch.randn(rows, 6)
        torch.testing.assert_close(placed(x), model(x))
    assert any("a size that hangs on values would have to be known" in plan.broken for plan in tp.plans(placed))


def test_where_there_must_be_none_it_is_told_with_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "MOST_EXPECTED", 0)
    monkeypatch.setattr(foresight, "MOST_UNEXPECTED", 0)
    placed = tp.compile(Listed(), topology="local:2", fullgraph=True)
    with pytest.raises(
        tp.CaptureError, match=r"a size that hangs on values would have to be known.*test_unguarded\.py"
    ):
        placed(torch.randn(5, 6))
