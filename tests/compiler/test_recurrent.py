"""Recurrent layers are ops, and give what eager gives: outputs, states and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import torchplace as tp
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.graph import Graph

FORWARD, BACKWARD = "torchplace.recurrent_layer.default", "torchplace.recurrent_layer_backward.default"
KINDS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *args, **kwargs: nn.RNN(*args, nonlinearity="relu", **kwargs),
}
FORMS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "two, batch first": {"num_layers": 2, "batch_first": True},
    "both directions": {"num_layers": 2, "bidirectional": True},
    "no biases": {"bias": False},
}


class Reader(nn.Module):
    """Words, through a recurrent layer whose states are given, to its outputs and states."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(11, 6), layer
        hidden = layer.proj_size or layer.hidden_size
        self.last = nn.Linear(hidden * (2 if layer.bidirectional else 1), 3)

    def forward(self, x: torch.Tensor, states: Any = None) -> tuple[torch.Tensor, Any]:
        outputs, ends = self.layer(self.words(x), states)
        return self.last(outputs), ends


def states_of(layer: nn.RNNBase, batch: int) -> Any:
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    hidden = torch.randn(rows, batch, layer.proj_size or layer.hidden_size, requires_grad=True)
    cell = torch.randn(rows, batch, layer.hidden_size, requires_grad=True)
    return (hidden, cell) if isinstance(layer, nn.LSTM) else hidden


def everything(model: Callable[..., Any], parameters: list[nn.Parameter], x: torch.Tensor, states: Any) -> list[Any]:
    """Outputs, states and all gradients."""
    outputs, ends = model(x, states)
    results = [outputs, *(ends if isinstance(ends, tuple) else [ends])]
    leaves = [*parameters, *(states if isinstance(states, tuple) else [] if states is None else [states])]
    loss = sum((r * torch.linspace(-1, 1, r.numel()).view(r.shape)).sum() for r in results)
    return [*results, *torch.autograd.grad(loss, leaves)]  # type: ignore[arg-type]


def compared(layer: nn.RNNBase, given: bool) -> tuple[nn.Module, tp.Plan]:
    reference = Reader(layer)
    placed = tp.compile(copy.deepcopy(reference), topology="local:2", solver="random", cost="roofline")
    for batch in (3, 3, 4):
        x = torch.randint(0, 11, (batch, 5) if layer.batch_first else (5, batch))
        states = states_of(layer, batch) if given else None
        expected = everything(reference, list(reference.parameters()), x, states)
        found = everything(placed, list(placed.parameters()), x, states)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    return placed, tp.plans(placed)[0]


def targets(graph: Graph) -> list[str]:
    return [op.target for op in graph.ops]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_layers_give_what_eager_gives(kind: str, form: str) -> None:
    torch.manual_seed(0)
    layer = KINDS[kind](6, 4, **FORMS[form])
    _, plan = compared(layer, given=form != "one layer")
    assert not plan.broken


def test_projections_give_what_eager_gives() -> None:
    torch.manual_seed(0)
    compared(nn.LSTM(6, 5, num_layers=2, proj_size=3, bidirectional=True), given=True)


def test_a_layer_is_an_op_however_long_its_input_is() -> None:
    layer = nn.LSTM(6, 4, num_layers=2)
    counts = set()
    for steps in (3, 50):
        (captured,) = capture_dry(Reader(layer), (torch.zeros(steps, 2, dtype=torch.long),), {}, training=True)
        counts.add(len(captured.graph.ops))
        assert targets(captured.graph).count(FORWARD) == targets(captured.graph).count(BACKWARD) == 2
        modules = {op.module for op in captured.graph.ops if op.target in (FORWARD, BACKWARD)}
        assert modules == {"layer"}
        products = 2 * steps * 2 * 4 * 4 * (6 + 4 + 4 + 4)
        assert sum(op.flops for op in captured.graph.ops if op.target == FORWARD) == products
        assert sum(op.flops for op in captured.graph.ops if op.target == BACKWARD) == 3 * products
    assert len(counts) == 1


def test_frozen_weights_get_no_gradients() -> None:
    reader = Reader(nn.GRU(6, 4))
    reader.layer.requires_grad_(False)
    placed = tp.compile(reader, topology="local:2", solver="random", cost="roofline")
    placed(torch.randint(0, 11, (5, 2)))[0].sum().backward()
    assert all(p.grad is None for p in reader.layer.parameters())
    assert reader.words.weight.grad is not None


def test_dropout_between_layers_is_drawn_from_the_seed() -> None:
    reader = Reader(nn.LSTM(6, 4, num_layers=3, dropout=0.5))
    x = torch.randint(0, 11, (5, 2))
    placed = [tp.compile(copy.deepcopy(reader), topology=f"local:{n}", cost="roofline") for n in (1, 2)]
    found = []
    for model in placed:
        torch.manual_seed(5)
        found.append(model(x)[0])
    one, two = found
    assert torch.equal(one, two)
    assert not torch.equal(one, placed[0](x)[0]), "another step, other numbers"
    reader.eval()
    for model in placed:
        assert torch.allclose(model.eval()(x)[0], reader(x)[0], atol=1e-6)


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(6, 4, batch_first=True)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed, _ = self.layer(pack_padded_sequence(x, lengths, batch_first=True))
        result: torch.Tensor = pad_packed_sequence(packed, batch_first=True)[0]
        return result


def test_packed_sequences_still_run() -> None:
    torch.manual_seed(0)
    reference, x = Packed(), torch.randn(3, 5, 6)
    placed = tp.compile(copy.deepcopy(reference), topology="local:2", cost="roofline")
    lengths = torch.tensor([5, 3, 2])
    for model in (reference, placed):
        model(x, lengths).square().sum().backward()
    for a, b in zip(placed.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("inner", [False, True])
def test_under_autocast_a_layer_does_what_eager_does(inner: bool) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layer = nn.Linear(6, 6), nn.GRU(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=inner):
                y: torch.Tensor = self.layer(self.first(x))[0]
            return y.float()

    torch.manual_seed(0)
    reference, x = Mixed(), torch.randn(5, 2, 6)
    placed = tp.compile(copy.deepcopy(reference), topology="local:2", cost="roofline")
    with torch.autocast("cpu", torch.bfloat16, enabled=not inner):
        torch.testing.assert_close(placed(x), reference(x), atol=2e-2, rtol=2e-2)


def test_a_checkpointed_layer() -> None:
    class Checkpointed(Reader):
        def forward(self, x: torch.Tensor, states: Any = None) -> Any:
            return checkpoint(super().forward, x, states, use_reentrant=False)

    torch.manual_seed(0)
    reference, x = Checkpointed(nn.GRU(6, 4)), torch.randint(0, 11, (5, 2))
    placed = tp.compile(copy.deepcopy(reference), topology="local:2", solver="random", cost="roofline")
    for model in (reference, placed):
        model(x)[0].square().sum().backward()
    for a, b in zip(placed.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_steps_run_layers_pipelined() -> None:
    torch.manual_seed(0)
    reader = Reader(nn.LSTM(6, 4, num_layers=2, batch_first=True))
    reference = copy.deepcopy(reader)

    def loss(output: Any, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output[0].flatten(0, 1), target.flatten())

    step = tp.compile(reader, loss_fn=loss, microbatches=2, topology="local:2", solver="random", cost="roofline")
    x, y = torch.randint(0, 11, (4, 5)), torch.randint(0, 3, (4, 5))
    found = step(x, target=y)
    expected = sum(loss(reference(a), b) for a, b in zip(x.chunk(2), y.chunk(2), strict=True)) / 2
    expected.backward()
    torch.testing.assert_close(found, expected.detach())
    for a, b in zip(reader.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


class Gathered(nn.Module):
    """Reads as many rows as values say."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(6, 4)

    def forward(self, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        rows = x.new_zeros(int(places.max()) + 1, 6).index_add(0, places, x)
        return self.layer(rows.unsqueeze(0))[0].sum(1)


def test_rows_whose_number_hangs_on_values() -> None:
    torch.manual_seed(0)
    eager = Gathered()
    placed = tp.compile(copy.deepcopy(eager), topology="local:2", solver="random")
    x, places = torch.randn(5, 6), torch.tensor([0, 0, 1, 2, 2])
    for model in (eager, placed):
        model(x, places).square().sum().backward()
    torch.testing.assert_close(placed(x, places), eager(x, places))
    torch.testing.assert_close([p.grad for p in placed.parameters()], [p.grad for p in eager.parameters()])
    (plan,) = tp.plans(placed)
    assert not plan.broken
