"""What others' libraries do with a model goes on working when it is placed: generate, Trainer, LoRA."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

import torchplace as tp
from examples import generate_gpt2, hf_trainer
from tests.zoo import TOKENS, tokens

pytestmark = pytest.mark.usefixtures("one_thread")


def small() -> Any:
    """A GPT-2 that uses its key-value cache."""
    torch.manual_seed(0)
    sizes = {"vocab_size": TOKENS, "n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 4}
    still = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0)
    return hf.GPT2LMHeadModel(hf.GPT2Config(**sizes, **still, bos_token_id=0, eos_token_id=1)).eval()


@pytest.mark.parametrize("solver", ["balanced", "random"])
def test_generate_gives_the_tokens_of_eager(solver: str) -> None:
    model = small()
    prompts = [tokens(2, length) for length in (5, 9, 7)]
    expected = [generate_gpt2.tokens(model, prompt, 12)[0] for prompt in prompts]
    placed = tp.compile(model, topology="local:2", solver=solver)
    for prompt, wanted in zip(prompts, expected, strict=True):
        assert torch.equal(generate_gpt2.tokens(placed, prompt, 12)[0], wanted)
    plans = len(tp.plans(placed))
    assert torch.equal(generate_gpt2.tokens(placed, tokens(2, 8), 20)[0][:, :8], tokens(2, 8))
    assert len(tp.plans(placed)) == plans, "lengths are dynamic by now: nothing is planned again"


def test_trainer_has_the_losses_of_eager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = hf_trainer.train(hf_trainer.build(), 20)
    found = hf_trainer.train(tp.compile(hf_trainer.build(), topology="local:2", solver="balanced"), 20)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[-1] < found[0]


def test_lora_trains_its_adapters_alone() -> None:
    peft = pytest.importorskip("peft")

    def adapted() -> nn.Module:
        torch.manual_seed(0)
        config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["c_attn"], task_type="CAUSAL_LM")
        made: nn.Module = peft.get_peft_model(copy.deepcopy(base), config)
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter)
        return made.train()

    base = small()
    base.config.use_cache = False
    models = adapted(), adapted()
    placed = tp.compile(models[1], topology="local:2", solver="random")
    for model, call in zip(models, (models[0], placed), strict=True):
        for _ in range(2):
            model.zero_grad()
            call(input_ids=tokens(2), labels=tokens(2)).loss.backward()
    theirs = dict(models[0].named_parameters())
    for name, parameter in models[1].named_parameters():
        assert (parameter.grad is not None) == ("lora" in name) == (theirs[name].grad is not None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[name].grad)
    assert models[1].state_dict().keys() == models[0].state_dict().keys()


class Talking(nn.Module):
    """A model with a graph break in its midst."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        torch._dynamo.graph_break()
        return self.last(x)


def test_graph_breaks_are_named_in_the_plan(tmp_path: Path) -> None:
    model, x = Talking(), torch.randn(2, 8)
    expected = model(x)
    placed = tp.compile(model, topology="local:2", solver="random")
    torch.testing.assert_close(placed(x), expected)
    first, second = tp.plans(placed)
    assert "test_ecosystem.py:" in first.broken
    assert second.broken == ""
    assert "1 graph break(s)" in str(first)
    first.save(tmp_path / "plan.json")
    assert tp.Plan.load(tmp_path / "plan.json").broken == first.broken


class Recurrent(nn.Module):
    """An LSTM, or a GRU."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cells, self.last = getattr(nn, kind)(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.cells(x)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_are_captured_whole(kind: str) -> None:
    torch.manual_seed(0)
    reference, x = Recurrent(kind), torch.randn(4, 5, 6)
    model = copy.deepcopy(reference)
    loss = reference(x).square().mean()
    loss.backward()
    step = tp.compile(model, loss_fn=lambda y: y.square().mean(), microbatches=2, topology="local:2", solver="random")
    torch.testing.assert_close(step(x), loss.detach())
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_recurrent_model_that_is_called_has_no_graph_break() -> None:
    torch.manual_seed(0)
    reference, x = Recurrent("GRU"), torch.randn(4, 5, 6)
    placed = tp.compile(copy.deepcopy(reference), topology="local:2", solver="random")
    torch.testing.assert_close(placed(x), reference(x))
    assert [plan.broken for plan in tp.plans(placed)] == [""]
