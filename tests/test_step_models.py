"""Steps of models with something unusual in them do what eager does, on any placement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchplace as tp
from tests.pairs import twice
from tests.stepping import cut, differences, eager_step, state

pytestmark = pytest.mark.usefixtures("one_thread", "forgotten")


class Convolutions(nn.Module):
    """Weights of convolutions that are made of other parameters, whose gradients are not the last of the backward."""

    def __init__(self) -> None:
        super().__init__()
        old = nn.utils.weight_norm  # type: ignore[deprecated]
        self.layers = nn.ModuleList(
            [
                old(nn.Conv1d(4, 4, 3, padding=1)),
                nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3, padding=1)),
                nn.utils.parametrizations.spectral_norm(nn.Conv1d(4, 4, 3, padding=1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (4, 6))
        for layer in self.layers:
            x = F.relu(layer(x) + x)
        return x


class Likelihood(nn.Module):
    """Linear algebra that checks its results: a covariance, its factor, its inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(24, 9)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        root = self.wide(x).view(-1, 3, 3)
        covariance = root @ root.mT + torch.eye(3)
        normal = torch.distributions.MultivariateNormal(torch.zeros(3), covariance)
        return normal.log_prob(x[:, :3]), torch.linalg.inv(covariance), torch.linalg.solve(covariance, root)


class Experts(nn.Module):
    """Rows go to the experts that a gate chooses: how many go where hangs on values."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(24, 3), nn.ModuleList(nn.Linear(24, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, -1)
        out = x.new_zeros(len(x), 4)
        for i, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == i)
            out.index_add_(0, rows, expert(x[rows]) * weights[rows, place].unsqueeze(-1))
        return out


class Codes(nn.Module):
    """Nearest codes with gradients straight through, and a buffer that counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.codes = nn.Linear(24, 4), nn.Embedding(6, 4)
        self.used: Tensor
        self.register_buffer("used", torch.zeros(6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.into(x)
        nearest = torch.cdist(z, self.codes.weight).argmin(1)
        if self.training:
            self.used.data.mul_(0.9).add_(F.one_hot(nearest, 6).float().sum(0), alpha=0.1)
        found = self.codes(nearest)
        return z + (found - z).detach(), F.mse_loss(found, z.detach()) + F.mse_loss(found.detach(), z)


class Waves(nn.Module):
    """Complex weights, between a transform and its inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x.unflatten(1, (4, 6)))
        return torch.fft.irfft(torch.einsum("bix,io->box", spectrum, self.weight), n=6)


class Unrolled(nn.Module):
    """A cell in a loop, whose steps attend to all that was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.cell, self.last = nn.GRU(6, 4, batch_first=True), nn.GRUCell(4, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        read, _ = self.read(x.unflatten(1, (4, 6)))
        state, outputs = read[:, -1], []
        for _ in range(3):
            shares = torch.einsum("bte,be->bt", read, state).softmax(-1)
            state = self.cell(torch.einsum("bt,bte->be", shares, read), state)
            outputs.append(self.last(state).log_softmax(-1))
        return torch.stack(outputs, 1)


MODELS: tuple[Callable[[], nn.Module], ...] = (Convolutions, Likelihood, Experts, Codes, Waves, Unrolled)
SCHEDULES = "zero-bubble", "synthesised", "gpipe"
ROWS = torch.randn(5, 24, generator=torch.Generator().manual_seed(3))


def loss_of(output: Any) -> Tensor:
    outputs = output if isinstance(output, tuple) else (output,)
    return torch.stack([(o * torch.linspace(-1, 1, o.numel()).view(o.shape)).sum() for o in outputs]).sum()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_step_is_what_eager_does(make: Callable[[], nn.Module]) -> None:
    models = eager, model = twice(make)
    number = MODELS.index(make)
    schedule = SCHEDULES[number % len(SCHEDULES)]
    placed = {"topology": "local:2", "solver": "random", "seed": number, "schedule": schedule}
    step = tp.compile(model, loss_fn=loss_of, microbatches=3, **placed)
    for _ in range(2):
        for one in models:
            one.zero_grad()
        expected = {"loss": eager_step(eager, lambda m, s: loss_of(m(ROWS[s])), cut(5, 3)), **state(eager)}
        found = {"loss": step(ROWS), **state(model)}
        assert differences(expected, found, rtol=1e-4) == []


def test_linear_algebra_that_fails_says_so() -> None:
    step = tp.compile(nn.Linear(3, 9), loss_fn=lambda o: torch.linalg.inv(o.view(-1, 3, 3)).sum(), microbatches=2)
    with torch.no_grad():
        step.model.weight.zero_()
        step.model.bias.zero_()
    with pytest.raises(tp.ExecutionError, match=r"singular"):
        step(torch.ones(4, 3))
