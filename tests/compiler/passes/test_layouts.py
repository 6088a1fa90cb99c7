"""Gradients leave the backward in the layout of their parameters."""

from __future__ import annotations

import torch
from torch import nn

import torchplace as tp
from tests.compiler.graphs import Builder, tensor
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.graph import Graph, Output, Value
from torchplace.compiler.passes.layouts import dense_gradients
from torchplace.compiler.types import TensorType


def graph_of(stride: tuple[int, ...] | None, outputs: int = 1) -> tuple[Graph, dict[str, Value]]:
    """A parameter of [2, 3], and a gradient of it with some strides that is returned once or more."""
    b = Builder()
    weight = b.parameter("w", 2, 3)
    made = b.many("aten.f", weight, shapes=[(2, 3)])
    made.outputs[0].type = TensorType("float32", (2, 3), stride)
    b.graph.outputs += [Output(made.outputs[0], "gradient", "w")] * outputs
    return b.graph, {"w": weight}


def test_a_gradient_of_another_layout_is_copied_once() -> None:
    graph, parameters = graph_of((1, 2), outputs=2)
    dense_gradients(graph, parameters)
    assert [op.target for op in graph.ops] == ["aten.f", "aten.clone.default"]
    (copied,) = {o.value for o in graph.outputs}
    assert isinstance(copied, Value)
    assert (copied.name, copied.type) == ("v0_0_dense", tensor(2, 3))
    assert Graph.parse(str(graph)).ops[-1].kwargs == graph.ops[-1].kwargs


def test_a_gradient_of_the_same_layout_is_left_alone() -> None:
    graph, parameters = graph_of(None)
    dense_gradients(graph, parameters)
    assert len(graph.ops) == 1
    graph, parameters = graph_of((1, 2))
    parameters["w"].type = TensorType("float32", (2, 3), (1, 2))
    dense_gradients(graph, parameters)
    assert len(graph.ops) == 1, "its parameter is not contiguous either"


class Transposed(nn.Module):
    """A product whose weight is taken transposed, twice over, and one that is tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, 6] to [n, 6]."""
        return x @ self.weight @ self.weight.t()


def test_what_autograd_gets_it_need_not_copy() -> None:
    x = torch.randn(3, 6)
    (captured,) = capture_dry(Transposed(), (x,), {}, training=True)
    gradients = [o.value for o in captured.parts[1].outputs if o.path]
    assert gradients
    assert all(isinstance(g, Value) and isinstance(g.type, TensorType) and g.type.stride is None for g in gradients)
    eager = Transposed()
    placed = tp.compile(Transposed(), topology="local:2", solver="round-robin")
    placed.load_state_dict(eager.state_dict())
    for model in (eager, placed):
        model(x).square().mean().backward()
    assert placed.weight.grad.stride() == eager.weight.grad.stride()
    torch.testing.assert_close(placed.weight.grad, eager.weight.grad)
