"""What Accelerate has dispatched is taken back: no hooks, all weights there, and results as before."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchplace as tp
from torchplace.compiler.dispatched import hooks_aside, is_dispatched, take_back

accelerate = pytest.importorskip("accelerate")


class Tied(nn.Module):
    """An embedding that is the head, too, a norm with buffers, and a layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.norm = nn.BatchNorm1d(8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.head = nn.Linear(8, 11, bias=False)
        self.tie_weights()

    def tie_weights(self, **_: Any) -> None:
        self.head.weight = self.words.weight

    def forward(self, words: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        x = self.norm(self.words(words).mean(1))
        for layer in self.layers:
            x = torch.relu(layer(x)) * scale
        return self.head(x)


WORDS = torch.arange(12).view(3, 4) % 11
PLACES = {
    "cpu": {"": "cpu"},
    "disk": {"words": "cpu", "norm": "cpu", "layers.0": "cpu", "layers.1": "disk", "head": "cpu"},
    "all on disk": dict.fromkeys(("words", "norm", "layers", "head"), "disk"),
}


def dispatched(model: nn.Module, places: dict[str, str], folder: Path) -> nn.Module:
    found: nn.Module = accelerate.dispatch_model(
        copy.deepcopy(model), places, main_device="cpu", offload_dir=folder, force_hooks=True
    )
    return found


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Tied().eval()


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_a_dispatched_model_can_be_placed_and_trained(model: nn.Module, places: dict[str, str], tmp_path: Path) -> None:
    placed = tp.compile(dispatched(model, places, tmp_path), topology="local:2", solver="random", seed=1)
    assert not is_dispatched(placed)
    assert not hasattr(placed, "hf_device_map")
    assert placed.words.weight is placed.head.weight
    assert placed.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(placed.state_dict()[name], tensor), name
    for call in (model, placed):
        call.zero_grad()
        call(WORDS, scale=0.5).square().mean().backward()
    torch.testing.assert_close(placed(WORDS), model(WORDS))
    for mine, theirs in zip(placed.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    assert {plan.broken for plan in tp.plans(placed)} == {""}


def test_planning_leaves_it_dispatched(model: nn.Module, tmp_path: Path) -> None:
    there = dispatched(model, PLACES["disk"], tmp_path)
    expected = tp.plan(model, WORDS, topology="local:2", solver="balanced")
    found = tp.plan(there, WORDS, topology="local:2", solver="balanced")
    assert found.fingerprint == expected.fingerprint
    assert found.rest == ()
    assert is_dispatched(there)
    assert there.layers[1].weight.device.type == "meta"
    torch.testing.assert_close(there(WORDS), model(WORDS))


def test_weights_that_never_were_in_memory_are_read(model: nn.Module, tmp_path: Path) -> None:
    """As `from_pretrained(device_map="auto")` leaves them: the model is made on the meta device."""
    index = accelerate.utils.OffloadedWeightsLoader(state_dict=model.state_dict())
    with torch.device("meta"):
        bare = Tied().eval()
    accelerate.hooks.attach_align_device_hook(
        bare, execution_device="cpu", offload=True, offload_buffers=True, weights_map=index
    )
    torch.testing.assert_close(bare(WORDS), model(WORDS))
    placed = tp.compile(bare, topology="local:2", solver="random")
    assert placed.words.weight is placed.head.weight
    torch.testing.assert_close(placed(WORDS), model(WORDS))


def test_others_are_left_alone(model: nn.Module) -> None:
    before = {path: dict(vars(module)) for path, module in model.named_modules()}
    with hooks_aside(model), hooks_aside(torch.relu):
        take_back(model)
    assert {path: dict(vars(module)) for path, module in model.named_modules()} == before
