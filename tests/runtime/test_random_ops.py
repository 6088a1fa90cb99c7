"""Random ops draw from (step seed, op), wherever they run: a seed gives the same results on any placement."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.switchboard import ONE_DEVICE, Setting, Switchboard

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
SETTINGS = [ONE_DEVICE, Setting(2, "balanced"), Setting(3, "round-robin"), Setting(4, "random", 1)]


class Noisy(nn.Module):
    """Dropout of several kinds, some of it recomputed in the backward, and noise."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.4), nn.Linear(16, 8)) for _ in range(3)
        )
        self.last = nn.AlphaDropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.blocks
        x = x + first(x) + 0.1 * torch.rand_like(x) + 0.1 * torch.rand(x.shape, device=x.device)
        for block in others:
            x = x + checkpoint(block, x, use_reentrant=False)
        return self.last(x)


def two_steps(model: nn.Module, seed: int) -> list[torch.Tensor]:
    """Outputs and gradients of two steps, and what the caller draws next."""
    torch.manual_seed(seed)
    found = []
    for _ in range(2):
        model.zero_grad()
        output = model(X)
        output.square().sum().backward()
        found += [output.detach().clone(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
    return [*found, torch.rand(3)]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


def test_a_seed_gives_the_same_results_on_any_placement() -> None:
    torch.manual_seed(0)
    model = Noisy()
    board = Switchboard(model)
    two_steps(model, 1)  # captures, which itself may draw
    expected = two_steps(model, 1)
    for setting in SETTINGS:
        board.use(setting)
        assert equal(two_steps(model, 1), expected), str(setting)
        assert not equal(two_steps(model, 2), expected), str(setting)


def test_two_steps_draw_different_numbers() -> None:
    model = Noisy()
    Switchboard(model).use(SETTINGS[-1])
    found = two_steps(model, 1)
    half = (len(found) - 1) // 2
    assert not any(map(torch.equal, found[:half], found[half : 2 * half]))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_backward_is_that_of_the_same_masks(setting: Setting) -> None:
    """Also where the forward is recomputed: gradients agree with finite differences of the same seed."""
    torch.manual_seed(0)
    model = Noisy().double()
    Switchboard(model).use(setting)
    weights = [block[0].weight for block in model.blocks]

    def value() -> torch.Tensor:
        torch.manual_seed(3)
        return model(X.double()).sum()

    value().backward()
    for weight in weights:
        slope = weight.grad[0, 0].item()
        differences = []
        for step in (1e-6, -1e-6):
            moved = copy.deepcopy(weight.data)
            weight.data[0, 0] += step
            differences.append(value().item())
            weight.data.copy_(moved)
        assert (differences[0] - differences[1]) / 2e-6 == pytest.approx(slope, rel=1e-4, abs=1e-6)
