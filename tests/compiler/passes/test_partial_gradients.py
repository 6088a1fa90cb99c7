"""Gradients of shared parameters are returned in parts, which add up to what they were."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from torchplace.api import session_of
from torchplace.compiler.graph import Graph, Value
from torchplace.compiler.instructions import Accumulate, Send
from torchplace.compiler.joint import capture_step


class Tied(nn.Module):
    """An embedding that is looked up twice and is the head, too."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.body = nn.Embedding(11, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.body(self.words(first) + self.words(second))))


FIRST, SECOND = torch.arange(8), torch.arange(8).flip(0) + 2
TARGET = torch.arange(8) % 11
PINS = {"words": "cpu:0", "body": "cpu:0", "head": "cpu:1"}


def graph_of(model: nn.Module) -> Graph:
    call = ((FIRST, SECOND), {}, (TARGET,))
    return capture_step(model, call, F.cross_entropy, training=True).graph


def gradients(graph: Graph, path: str) -> list[Value]:
    return [o.value for o in graph.outputs if o.path == path and isinstance(o.value, Value)]


def test_each_use_of_a_shared_parameter_has_a_gradient_of_its_own() -> None:
    graph = graph_of(Tied())
    graph.check()
    made = gradients(graph, "words.weight")
    assert len(made) == 3
    assert sorted(v.producer.target.split(".")[1] for v in made if v.producer is not None) == [
        "embedding_dense_backward",
        "embedding_dense_backward",
        "t",
    ]
    assert len(gradients(graph, "body.weight")) == 1
    assert all(op.phase == "weight-grad" for v in made if (op := v.producer) is not None)


def test_what_is_not_shared_stays_as_it_is() -> None:
    graph = graph_of(Tied(tied=False))
    assert len(gradients(graph, "head.weight")) == 1
    assert len(gradients(graph, "words.weight")) == 2, "it is looked up twice"


def test_a_parameter_that_is_used_many_times_keeps_its_sum() -> None:
    class Again(Tied):
        def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            x = self.words(first)
            for _ in range(6):
                x = torch.tanh(self.body(x))
            return self.head(x)

    graph = graph_of(Again())
    graph.check()
    assert len(gradients(graph, "body.weight")) == 1
    assert len(gradients(graph, "words.weight")) == 2


@pytest.mark.parametrize("microbatches", [1, 4])
def test_gradients_are_those_of_eager(microbatches: int) -> None:
    model, reference = Tied(), Tied()
    seen: list[torch.Tensor] = []
    model.words.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    step = tp.compile(
        model, loss_fn=F.cross_entropy, microbatches=microbatches, topology="local:2", pins=PINS, solver="balanced"
    )
    for turn in (1, 2):  # the second is added to the first
        step(FIRST, SECOND, target=TARGET)
        F.cross_entropy(reference(FIRST, SECOND), TARGET).backward()
        torch.testing.assert_close(model.words.weight.grad, reference.words.weight.grad)
        torch.testing.assert_close(model.body.weight.grad, reference.body.weight.grad)
        assert len(seen) == turn, "hooks are called once a step, with all of it"
        assert torch.equal(seen[-1], model.words.weight.grad)


def test_each_part_is_added_up_where_it_is_made_and_sent_once() -> None:
    step = tp.compile(Tied(), loss_fn=F.cross_entropy, microbatches=4, topology="local:2", pins=PINS, solver="balanced")
    step(FIRST, SECOND, target=TARGET)
    program = session_of(step).placed[0].parts[0].program
    sums = {i.into: device for device, i in program if isinstance(i, Accumulate)}
    assert {"cpu:0", "cpu:1"} == set(sums.values())
    sent = [i.value for _, i in program if isinstance(i, Send) and i.value in sums]
    assert len(sent) == 1, "the head's part, at the end"
    table = 11 * 6 * 4
    large = [i.value for _, i in program if isinstance(i, Send) and program.values[i.value].nbytes >= table]
    assert len(large) == 2, "the parameter to the head, and its gradient back: once a step each"
