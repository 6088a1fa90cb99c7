"""Packed sequences give eager's values and gradients, break no graph, and go through steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import rnn
from torch.nn.utils.rnn import PackedSequence

import torchplace as tp
from tests.pairs import close, pair, trained, twice
from torchplace.compiler import packed
from torchplace.compiler.dry import capture_dry

pytestmark = pytest.mark.usefixtures("forgotten")

WIDTH, STEPS = 6, 7
WHOLE = {"fullgraph": True}


class Reader(nn.Module):
    """Reads rows of several lengths: what it says of each step, 0 where there is none."""

    def __init__(self, kind: str = "LSTM", steps: int | None = None, in_order: bool = False, **options: Any) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(WIDTH, 5, **{"num_layers": 2, "batch_first": True, **options})
        directions = 1 + self.layer.bidirectional
        self.head = nn.Linear(directions * (self.layer.proj_size or 5), 3)
        self.steps, self.in_order = steps, in_order

    def forward(self, x: torch.Tensor, lengths: Any) -> torch.Tensor:
        first = self.layer.batch_first
        x = x if first else x.transpose(0, 1)
        rows = rnn.pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=self.in_order)
        read, state = self.layer(rows)
        padded, found = rnn.pad_packed_sequence(read, batch_first=first, total_length=self.steps)
        said = self.head(padded if first else padded.transpose(0, 1))
        there = torch.arange(said.shape[1]) < found[:, None]
        last = state[0] if isinstance(state, tuple) else state
        result: torch.Tensor = said * there[..., None] + last.mean()
        return result


def rows(count: int, seed: int, in_order: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, STEPS + 1, (count,), generator=generator)
    lengths = lengths.sort(descending=True).values if in_order else lengths
    return torch.randn(count, STEPS, WIDTH, generator=generator), lengths


CASES: dict[str, dict[str, Any]] = {
    "lstm, in two directions": {"bidirectional": True},
    "gru, steps first, as long as its inputs": {"kind": "GRU", "batch_first": False, "steps": STEPS},
    "plain, in order, without biases": {"kind": "RNN", "in_order": True, "bias": False, "num_layers": 1},
    "projected": {"proj_size": 4, "num_layers": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_models_give_what_eager_gives(case: str) -> None:
    """With other lengths, and other numbers of them, too."""
    eager, placed = pair(lambda: Reader(**CASES[case]), **WHOLE)
    for count, seed in ((4, 0), (4, 1), (5, 2)):
        given = rows(count, seed, bool(CASES[case].get("in_order")))
        close(trained(placed, *given), trained(eager, *given))
        with torch.no_grad():
            close(placed(*given), eager(*given))
    assert len(tp.plans(placed)) == 4, "for each number of rows: with gradients, and without"


@pytest.mark.parametrize("case", list(CASES)[:3])
def test_steps_give_what_eager_gives(case: str) -> None:
    """Of which micro-batches have lengths of their own."""
    eager, model = twice(lambda: Reader(**CASES[case]))
    step = tp.compile(
        model, loss_fn=lambda y: y.square().sum(), microbatches=2, topology="local:2", solver="random", reduction="sum"
    )
    for seed in range(2):
        model.zero_grad()
        eager.zero_grad()
        x, lengths = rows(4, seed, bool(CASES[case].get("in_order")))
        loss = step(x, lengths)
        expected = [eager(*part).square().sum() for part in zip(x.chunk(2), lengths.chunk(2), strict=True)]
        whole = torch.stack(expected).sum()
        whole.backward()
        close(loss, whole.detach())
        close([p.grad for p in model.parameters()], [p.grad for p in eager.parameters()])


def test_lengths_may_be_numbers_from_a_tensor() -> None:
    class Listed(Reader):
        def forward(self, x: torch.Tensor, lengths: Any) -> torch.Tensor:
            return super().forward(x, lengths.tolist())

    eager, placed = pair(Listed, **WHOLE)
    for seed in range(3):
        given = rows(4, seed)
        close(trained(placed, *given), trained(eager, *given))
    assert len(tp.plans(placed)) == 1


class OfParts(nn.Module):
    """What is in packed rows is worked on, and packed anew."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(WIDTH, 5), nn.Linear(5, 5)

    def forward(self, *sequences: torch.Tensor) -> torch.Tensor:
        read, _ = self.layer(rnn.pack_sequence([*sequences], enforce_sorted=False))
        again = PackedSequence(self.head(read.data).tanh(), read.batch_sizes, read.sorted_indices, None)
        return rnn.pad_packed_sequence(again, padding_value=0.5)[0] + rnn.pad_sequence([*sequences])[..., :5]


def test_sequences_of_their_own_and_what_is_in_them() -> None:
    eager, placed = pair(OfParts, **WHOLE)
    for lengths in ((3, 5, 2), (4, 1, 6)):
        given = [torch.randn(n, WIDTH) for n in lengths]
        close(trained(placed, *given), trained(eager, *given))


class OfPacked(nn.Module):
    """Reads what somebody else has packed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(WIDTH, 5, bidirectional=True)

    def forward(self, given: PackedSequence) -> tuple[torch.Tensor, torch.Tensor]:
        return rnn.pad_packed_sequence(self.layer(given)[0])


@pytest.mark.parametrize("in_order", [False, True])
def test_packed_inputs(in_order: bool) -> None:
    eager, placed = pair(OfPacked, **WHOLE)
    for lengths in ((5, 3, 2), (6, 3, 2, 1)):
        given = rnn.pack_sequence([torch.randn(n, WIDTH) for n in lengths], enforce_sorted=in_order)
        close(placed(given), eager(given))


def test_layers_are_captured_as_one_op_each() -> None:
    model, (x, lengths) = Reader(), rows(4, 0)
    captured = capture_dry(model, (x, lengths), {}, training=True)[0]
    layers = [op.target for op in captured.graph.ops if "recurrent_layer" in op.target]
    assert Counter(layers) == {
        "torchplace.recurrent_layer.default": 2,
        "torchplace.recurrent_layer_backward.default": 2,
    }


@pytest.mark.parametrize(
    ("lengths", "told"),
    [([3, 5, 2], "sorted in decreasing order"), ([5, 2, 0], "greater than 0"), ([5, 2], "equal to batch_size")],
)
def test_lengths_that_are_wrong_are_said_to_be(lengths: list[int], told: str) -> None:
    _, placed = pair(lambda: Reader(in_order=True))
    with pytest.raises(tp.ExecutionError, match=told):
        placed(torch.randn(3, STEPS, WIDTH), torch.tensor(lengths))


def test_ops_have_the_derivatives_and_the_shapes_that_they_say() -> None:
    x = torch.randn(3, STEPS, 2, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 3, 2])

    def there_and_back(x: torch.Tensor) -> torch.Tensor:
        data, sizes = packed.packed_rows(x, lengths, True)
        padded: torch.Tensor = packed.padded_rows(data.sin(), sizes, 3, True, 0.0, STEPS)[0]
        return padded

    assert torch.autograd.gradcheck(there_and_back, x)
    data, sizes = packed.packed_rows(x.detach(), lengths, True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(packed.packed_rows, (x, lengths, True), test_utils=checks)
    given = (data.requires_grad_(), sizes, 3, False, 0.0, STEPS)
    torch.library.opcheck(packed.padded_rows, given, test_utils=checks)
