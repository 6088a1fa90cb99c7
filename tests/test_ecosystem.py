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


def test_models_that_record_what_passes_through_them_are_captured_whole() -> None:
    """transformers installs hooks for that at the first call, under a lock."""

    def mixtral() -> Any:
        torch.manual_seed(0)
        sizes = {"vocab_size": TOKENS, "hidden_size": 16, "intermediate_size": 32, "num_local_experts": 4}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        return hf.MixtralForCausalLM(hf.MixtralConfig(**sizes, **heads, output_router_logits=True, use_cache=False))

    eager, placed = mixtral(), tp.compile(mixtral(), topology="local:2", solver="random")
    for _ in range(2):
        expected, found = (call(input_ids=tokens(2), labels=tokens(2)) for call in (eager, placed))
        assert len(found.router_logits) == len(expected.router_logits) == 2
        torch.testing.assert_close(found.loss, expected.loss)
    assert [plan.broken for plan in tp.plans(placed)] == [""]


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


class Decoder(nn.Module):
    """A model as torchtitan has them: layers by name, made on the meta device, and weights that it sets itself."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(TOKENS, 16)
        self.layers = nn.ModuleDict({str(i): nn.TransformerEncoderLayer(16, 2, 32, 0.0) for i in range(2)})
        self.norm, self.output = nn.RMSNorm(16), nn.Linear(16, TOKENS, bias=False)

    def init_weights(self) -> None:
        generator = torch.Generator().manual_seed(0)
        for name, parameter in self.named_parameters():
            nn.init.ones_(parameter) if "norm" in name else nn.init.normal_(parameter, 0.0, 0.1, generator)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.words(words)
        for layer in self.layers.values():
            x = layer(x)
        return self.output(self.norm(x))


def titan_loop(place: bool, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Gradients of several batches added up, clipped, a scheduler, and a checkpoint that is read again half way."""
    from torch.distributed.checkpoint import load, save
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    with torch.device("meta"):
        model = Decoder()
    model.to_empty(device="cpu")
    model.init_weights()
    if place:
        model = tp.compile(model, topology="local:2", solver="random", seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, foreach=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    losses = []
    for step in range(4):
        optimizer.zero_grad()
        for part in range(2):
            words = tokens(2, 6 + part)
            loss = nn.functional.cross_entropy(model(words).flatten(0, 1), words.flatten()) / 2
            loss.backward()
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        scheduler.step()
        if step == 1:
            held, moments = get_state_dict(model, optimizer)
            save({"model": held, "optimizer": moments}, checkpoint_id=folder, no_dist=True)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.zero_()
            load({"model": held, "optimizer": moments}, checkpoint_id=folder, no_dist=True)
            set_state_dict(model, optimizer, model_state_dict=held, optim_state_dict=moments)
    return losses, model.state_dict()


def test_a_loop_as_torchtitan_has_it(tmp_path: Path) -> None:
    losses, weights = titan_loop(False, tmp_path / "eager")
    found, theirs = titan_loop(True, tmp_path / "placed")
    assert found == pytest.approx(losses, rel=1e-4)
    assert theirs.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_layers_that_torchao_has_quantised(kind: str) -> None:
    quantization = pytest.importorskip("torchao.quantization")

    def quantised() -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)).eval()
        quantization.quantize_(model, getattr(quantization, kind)())
        return model

    eager, placed = quantised(), tp.compile(quantised(), topology="local:2", solver="random", seed=1)
    with torch.no_grad():
        for rows in (4, 7):
            x = torch.randn(rows, 64)
            torch.testing.assert_close(placed(x), eager(x))
    assert {plan.broken for plan in tp.plans(placed)} == {""}
    assert len(tp.plans(placed)[0].devices_used) == 2
    assert placed.state_dict().keys() == eager.state_dict().keys()


def test_lightning_fits_a_placed_module() -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
            self.losses: list[float] = []

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 1e-2)

    def fit(place: str) -> list[float]:
        torch.manual_seed(0)
        module = Module()
        if place:
            tp.compile(module.get_submodule(place.strip(".")), topology="local:2", solver="balanced")
        x = torch.randn(32, 8)
        rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), 8)
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        lightning.Trainer(max_epochs=2, accelerator="cpu", gradient_clip_val=1.0, **quiet).fit(module, rows)
        return module.losses

    expected = fit("")
    assert fit("net") == pytest.approx(expected, rel=1e-4)
    assert fit(".") == pytest.approx(expected, rel=1e-4)
