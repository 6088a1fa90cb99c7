"""Costs of ops that a compiler fuses: those of a segment add up to what the segment took."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchplace.compiler.dry import capture_dry
from torchplace.compiler.graph import Graph
from torchplace.placement.cost.compiled import Compiled
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.topology import Topology

MODEL = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8))
GRAPH: Graph = capture_dry(MODEL, (torch.randn(4, 8),), {}, training=False)[0].graph
DEVICE = Topology.local(2, threads=1).devices[0]


@given(st.integers(0, len(GRAPH.ops)), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_ops_of_a_segment_add_up_to_it(cut: int, first: float, second: float) -> None:
    cost, pieces = Compiled(Roofline()), (GRAPH.ops[:cut], GRAPH.ops[cut:])
    for ops, seconds in zip(pieces, (first, second), strict=True):
        cost.learn(ops, DEVICE, seconds)
    for ops, seconds in zip(pieces, (first, second), strict=True):
        if any(Roofline().time(op, DEVICE) for op in ops):
            assert sum(cost.time(op, DEVICE) for op in ops) == pytest.approx(seconds)


def test_what_is_not_known_costs_what_it_costs_alone() -> None:
    cost, alone = Compiled(Roofline()), Roofline()
    cost.learn(GRAPH.ops[:1], DEVICE, 3.0)
    assert [cost.time(op, DEVICE) for op in GRAPH.ops[1:]] == [alone.time(op, DEVICE) for op in GRAPH.ops[1:]]
    assert (cost.name, cost.demand(GRAPH.ops[0], DEVICE)) == (alone.name, alone.demand(GRAPH.ops[0], DEVICE))
