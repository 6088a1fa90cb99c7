"""Which ops of a traced graph draw random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx

from torchplace.compiler.draws import draws


@pytest.mark.parametrize(
    ("target", "kwargs", "drawn"),
    [
        (torch.rand, {}, True),
        (torch.bernoulli, {}, True),
        (F.dropout, {"training": True}, True),
        (F.dropout, {"training": False}, False),
        (F.scaled_dot_product_attention, {"dropout_p": 0.1}, True),
        (F.scaled_dot_product_attention, {}, False),
        (torch.add, {}, False),
    ],
)
def test_it_is_known_of_the_op_and_what_it_is_given(
    target: Callable[..., Any], kwargs: dict[str, Any], drawn: bool
) -> None:
    assert bool(draws(fx.Graph().call_function(target, (), kwargs))) is drawn


def test_methods_draw_too() -> None:
    graph = fx.Graph()
    assert draws(graph.call_method("normal_", (graph.placeholder("x"),)))
