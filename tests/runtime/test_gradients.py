"""Gradients end where autograd would leave them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from tests.stepping import cut, differences, eager_step, state, twins

pytestmark = pytest.mark.usefixtures("one_thread")

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
PLACED = {"topology": "local:2", "solver": "random", "seed": 3}


def mean(output: torch.Tensor) -> torch.Tensor:
    return output.square().mean()


def steps(model: nn.Module, count: int = 2, x: torch.Tensor = X) -> None:
    """Runs several and compares with eager."""
    ours, theirs = twins(model)
    step = tp.compile(ours, loss_fn=mean, microbatches=3, **PLACED)
    for _ in range(count):
        loss = eager_step(theirs, lambda m, s: mean(m(x[s])), cut(len(x), 3))
        assert differences({"loss": loss, **state(theirs)}, {"loss": step(x), **state(ours)}) == []


def test_gradients_are_added_in_place() -> None:
    model = nn.Linear(4, 4)
    step = tp.compile(model, loss_fn=mean, microbatches=3, **PLACED)
    step(X)
    before = model.weight.grad
    assert before is not None
    value = before.clone()
    step(X)
    assert model.weight.grad is before
    torch.testing.assert_close(before, 2 * value)


def test_sums_are_those_of_as_many_backwards_to_the_bit() -> None:
    model, reference = twins(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)))
    step = tp.compile(model, loss_fn=mean, microbatches=3, topology="local:1")
    for _ in range(3):
        step(X)
        eager_step(reference, lambda m, s: mean(m(X[s])), cut(6, 3))
        assert differences(state(reference), state(model), rtol=0) == []


def test_parameters_that_share_a_gradient_get_memory_of_their_own() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Parameter(torch.ones(4)) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.a + (self.b + self.c)

    model = Sum()
    step = tp.compile(model, loss_fn=mean, microbatches=2, topology="local:1")
    step(X)
    grads = [p.grad for p in model.parameters()]
    assert len({g.data_ptr() for g in grads if g is not None}) == 3
    steps(Sum())


def test_a_parameter_that_is_the_loss() -> None:
    class Number(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a + self.b

    model = Number()
    step = tp.compile(model, loss_fn=lambda output: output, microbatches=3, topology="local:2", solver="random")
    assert step(X) == 5
    step(X)
    assert [p.grad.item() for p in model.parameters() if p.grad is not None] == pytest.approx([2.0, 2.0])


def test_unused_and_frozen_parameters_have_none() -> None:
    model = nn.ModuleDict({"used": nn.Linear(4, 4), "unused": nn.Linear(4, 4)})
    model["used"].bias.requires_grad_(False)
    step = tp.compile(lambda x: model["used"](x), loss_fn=mean, microbatches=2, **PLACED)
    step(X)
    assert [n for n, p in model.named_parameters() if p.grad is not None] == ["used.weight"]


def test_sparse_gradients() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.last = nn.Embedding(9, 4, sparse=True), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.table(x))

    tokens = torch.arange(6) % 4
    model, reference = twins(Words())
    step = tp.compile(model, loss_fn=mean, microbatches=3, **PLACED)
    for _ in range(2):
        step(tokens)
        eager_step(reference, lambda m, s: mean(m(tokens[s])), cut(6, 3))
        ours, theirs = model.table.weight.grad, reference.table.weight.grad
        assert ours.is_sparse
        torch.testing.assert_close(ours.to_dense(), theirs.to_dense())


def test_layouts_of_gradients_that_are_there_stay() -> None:
    model = nn.Linear(4, 4)
    model.weight.grad = torch.zeros(4, 4).t()
    steps(model)


def test_gradients_in_another_dtype() -> None:
    torch.manual_seed(0)
    model, reference = twins(nn.Linear(4, 4).bfloat16())
    step = tp.compile(model, loss_fn=mean, microbatches=3, **PLACED)
    step(X.bfloat16())
    eager_step(reference, lambda m, s: mean(m(X.bfloat16()[s])), cut(6, 3))
    assert model.weight.grad is not None
    assert model.weight.grad.dtype == torch.bfloat16
    assert differences(state(reference), state(model), rtol=1e-2) == []


def test_a_hook_behind_accumulation_is_called_once_a_step() -> None:
    model = nn.Linear(4, 4)
    seen: list[torch.Tensor] = []
    model.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    step = tp.compile(model, loss_fn=mean, microbatches=3, **PLACED)
    step(X)
    step(X)
    torch.testing.assert_close(seen, [seen[0], 2 * seen[0]])


def test_a_hook_before_accumulation_is_refused() -> None:
    model = nn.Linear(4, 4)
    step = tp.compile(model, loss_fn=mean, microbatches=3, **PLACED)
    handle = model.weight.register_hook(lambda g: 2 * g)
    with pytest.raises(
        tp.OptionError, match=r"parameter 'weight' has a hook \(register_hook\).* use register_post_acc"
    ):
        step(X)
    handle.remove()
    step(X)
    assert model.weight.grad is not None


def test_a_parameter_that_two_modules_share() -> None:
    torch.manual_seed(0)
    first, last = nn.Linear(4, 4), nn.Linear(4, 4)
    last.weight = first.weight
    steps(nn.Sequential(first, nn.ReLU(), nn.BatchNorm1d(4), last))


def test_leaf_inputs_gather_gradients_of_their_rows() -> None:
    model, reference = twins(nn.Linear(4, 4))
    ours, theirs = (X.clone().requires_grad_() for _ in range(2))
    shared, other = (torch.ones(4, requires_grad=True) for _ in range(2))
    step = tp.compile(
        lambda x, scale: model(x * scale), loss_fn=mean, microbatches=3, batch_dims={"args[1]": None}, **PLACED
    )
    for _ in range(2):
        step(ours, shared)
        eager_step(reference, lambda m, s: mean(m(theirs[s] * other)), cut(6, 3))
    torch.testing.assert_close((ours.grad, shared.grad), (theirs.grad, other.grad))


def test_gradients_go_on_through_what_made_the_inputs() -> None:
    encoder, decoder = nn.Linear(4, 4), nn.Linear(4, 2)
    step = tp.compile(decoder, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    y = torch.tensor([0, 1, 0, 1, 1, 0])
    step(encoder(X).relu(), y)
    found = encoder.weight.grad
    encoder.weight.grad = None
    F.cross_entropy(decoder(encoder(X).relu()), y).backward()
    torch.testing.assert_close(found, encoder.weight.grad)
