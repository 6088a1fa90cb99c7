from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.placement.graphs import Table, machine, perceptron, problem
from torchplace.compiler.dry import capture_dry
from torchplace.placement.coarse.loads import Loads
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.planning import evaluation
from torchplace.placement.problem import Problem


class Net(nn.Module):
    """With a parameter that is used twice, and activations that the backward pass takes again."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.head = nn.Linear(4, 8, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(ids)))


BANDWIDTH = 16.0
MACHINE = machine([1 << 20] * 3, bandwidth=BANDWIDTH)


@pytest.fixture(scope="module", params=[False, True], ids=["inference", "training"])
def stated(request: pytest.FixtureRequest) -> tuple[Problem, Coarse]:
    [captured] = capture_dry(Net(), (torch.arange(3),), {}, training=request.param)
    evaluator = Evaluator(captured, MACHINE, Table(), {})
    made = Problem.build(
        captured.graph,
        MACHINE,
        Table(),
        training=captured.training,
        objective="throughput",
        evaluate=lambda placement: evaluation(evaluator, placement, "throughput"),
    )
    return made, Coarse.of(made, 10**6)


@given(data=st.data())
def test_links_are_as_busy_as_in_the_programs(stated: tuple[Problem, Coarse], data: st.DataObject) -> None:
    made, coarse = stated
    placed = [0] * len(coarse.items)
    for unit in coarse.units:
        device = data.draw(st.integers(0, 2))
        for item in unit:
            placed[item] = device
    lent = sum(value.nbytes for value in made.graph.inputs if value.kind in ("input", "tangent"))
    period = made.evaluate(coarse.place(placed)).value
    assert Loads(coarse, placed).period == pytest.approx(period, abs=lent / BANDWIDTH), "but for what the caller lends"


def test_each_part_has_what_it_takes_sent() -> None:
    made = problem(perceptron(), MACHINE, training=True)
    coarse = Coarse.of(made, 100)
    number = {ops[0]: i for i, ops in enumerate(coarse.items)}
    assert (number["layer1"], number["grad1"]) in {value.targets for value in coarse.values}
    assert {(number["layer1"],), (number["grad1"],)} <= {value.targets for value in coarse.sent}
    assert sum(len(value.targets) for value in coarse.sent) == sum(len(value.targets) for value in coarse.values)
