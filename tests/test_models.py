"""What people have in their models goes on working when they are placed: each gives what eager gives."""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import torchplace as tp
from tests.pairs import ROWS, Make, Square, close, mlp, pair, trained

pytestmark = pytest.mark.usefixtures("one_thread", "forgotten")

LOG = logging.getLogger("talking")


class Gated(nn.Module):
    """A branch that looks at the data, as an op of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: self.a(x).relu(), lambda x: self.b(x).tanh(), (x,))


class Scanned(nn.Module):
    """A loop over the rows, as an op of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def step(carried: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            new = torch.tanh(self.a(carried) + row)
            return new, new.clone()

        return _scan(step, torch.zeros(8), x)[1]


def _scan(*args: Any) -> Any:
    from torch._higher_order_ops.scan import scan

    return scan(*args)


class Spectral(nn.Module):
    """Complex numbers, a Fourier transform, and a complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.first = nn.Parameter(torch.randn(8, 8, dtype=torch.cfloat)), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft(torch.fft.rfft(self.first(x), n=14) @ self.mix, n=14)


class Looked(nn.Module):
    """Integers, and tables that are looked up, one of them a buffer."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        self.words, self.bag = nn.Embedding(10, 8, sparse=sparse), nn.EmbeddingBag(10, 8, mode="sum")
        self.register_buffer("shift", torch.arange(10))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.words((words + self.shift[words]) % 10).sum(1) + self.bag(words)


class Buffered(nn.Module):
    """Statistics that are written in place, in several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.first = nn.BatchNorm1d(8), nn.Linear(8, 8)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.mean.lerp_(x.mean(0).detach(), 0.1)
        return self.norm(self.first(x)) + self.mean


class Checkpointed(nn.Module):
    """Blocks that are computed again in the backward."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=self.reentrant)
        return x


@torch.library.custom_op("torchplace_tests::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


square.register_fake(torch.empty_like)
square.register_autograd(
    lambda ctx, gradient: 2 * ctx.saved_tensors[0] * gradient,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


class Own(nn.Module):
    """A function, an op of the user's own, vmap and autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = Square.apply(self.a(x))
        x = square(torch.func.vmap(self.b)(x))
        with torch.autocast("cpu", torch.bfloat16):
            return self.c(x)


def normed() -> nn.Module:
    inner = parametrizations.weight_norm(nn.Linear(16, 16)), parametrizations.spectral_norm(nn.Linear(16, 4))
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), inner[0], nn.ReLU(), inner[1])


def old_normed() -> nn.Module:
    weight, spectral = torch.nn.utils.weight_norm(nn.Linear(8, 16)), torch.nn.utils.spectral_norm(nn.Linear(16, 4))
    return nn.Sequential(weight, nn.ReLU(), spectral)


def convolutions() -> nn.Module:
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def hooked() -> nn.Module:
    model = mlp()
    model[0].register_forward_hook(lambda module, given, output: output * 2)
    model[2].register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    model[2].weight.register_hook(lambda gradient: gradient * 3)
    return model


IMAGES = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1)).contiguous(
    memory_format=torch.channels_last
)
WORDS = torch.arange(24).view(3, 8) % 10
MODELS: dict[str, tuple[Make, torch.Tensor]] = {
    "a branch": (Gated, ROWS.abs()),
    "the other branch": (Gated, -ROWS.abs()),
    "a scan": (Scanned, ROWS),
    "complex numbers": (Spectral, ROWS),
    "tables": (Looked, WORDS),
    "buffers": (Buffered, ROWS),
    "checkpoints": (lambda: Checkpointed(False), ROWS),
    "reentrant checkpoints": (lambda: Checkpointed(True), ROWS),
    "ops of one's own": (Own, ROWS),
    "parametrizations": (normed, ROWS),
    "norms of old": (old_normed, ROWS),
    "channels last": (convolutions, IMAGES),
    "hooks": (hooked, ROWS),
    "bfloat16": (lambda: mlp().bfloat16(), ROWS.bfloat16()),
    "float64": (lambda: mlp().double(), ROWS.double()),
}


@pytest.mark.parametrize(("make", "x"), MODELS.values(), ids=MODELS)
def test_it_is_captured_whole_and_trains_as_in_eager(make: Make, x: torch.Tensor) -> None:
    eager, placed = pair(make)
    for _ in range(2):
        for found, expected in zip(trained(placed, x), trained(eager, x), strict=True):
            close(found, expected)
    plans = tp.plans(placed)
    assert [plan.broken for plan in plans] == [""]
    assert len(plans[0].devices_used) == 2
    with torch.no_grad():
        close(placed.eval()(x), eager.eval()(x))


def test_attention_that_is_written_as_a_function() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(32, 96)

        def forward(self, x: torch.Tensor, mask: Any = None) -> torch.Tensor:
            q, k, v = self.inner(x).view(2, -1, 3, 2, 16).permute(2, 0, 3, 1, 4)
            earlier = flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: torch.where(i >= j, s, -float("inf")))
            return earlier if mask is None else flex_attention(earlier, k, v, block_mask=mask)

    eager, placed = pair(Attention)
    x = torch.randn(2, 128, 32)
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 128, 128, device="cpu")
    with torch.no_grad():  # on a CPU, torch has no backward of it
        close(placed(x), eager(x))
        close(placed(x, mask), eager(x, mask))
    assert {plan.broken for plan in tp.plans(placed)} == {""}
    assert any(len(plan.devices_used) == 2 for plan in tp.plans(placed))


def test_sparse_gradients_stay_sparse() -> None:
    eager, placed = pair(lambda: Looked(sparse=True))
    for model in (eager, placed):
        model(WORDS).square().sum().backward()
    assert placed.words.weight.grad.layout is torch.sparse_coo
    close(placed.words.weight.grad.to_dense(), eager.words.weight.grad.to_dense())


def test_outputs_of_any_form() -> None:
    @dataclass
    class Output:
        first: torch.Tensor
        other: Any = None

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor, *, scale: float = 1.0, more: Any = None) -> Any:
            y = self.inner(x) * scale
            return {"data": Output(y), "list": [y + 1, None, (y, 3, "text")], "more": more}

    eager, placed = pair(Model)
    found, expected = placed(ROWS, scale=2.0, more="x"), eager(ROWS, scale=2.0, more="x")
    close(found["data"].first, expected["data"].first)
    close(found["list"][2][0], expected["list"][2][0])
    assert (found["data"].other, found["list"][1], found["list"][2][1:], found["more"]) == (
        None,
        None,
        (3, "text"),
        "x",
    )


def test_int8_layers_of_torch() -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is on its way out
        quantized = torch.ao.quantization.quantize_dynamic(mlp(), {nn.Linear})
    expected = quantized(ROWS)
    placed = tp.compile(copy.deepcopy(quantized), topology="local:2", solver="balanced")
    with pytest.warns(UserWarning, match="something of 'Sequential' cannot be captured"):
        close(placed(ROWS), expected)


def test_a_plan_says_for_what_sizes_it_is_and_is_used_for_them() -> None:
    eager, placed = pair(mlp)
    x = torch.randn(4, 8)
    torch._dynamo.mark_dynamic(x, 0, min=2, max=64)
    placed(x)
    [plan] = tp.plans(placed)
    assert plan.holds == ("input[0] from 2 to 64",)
    for rows in (2, 9, 64):
        other = torch.randn(rows, 8)
        close(placed(other), eager(other))
    assert tp.plans(placed) == [plan]
    assert tp.plan(mlp(), x, topology="local:2").holds == plan.holds


def test_what_depends_on_values_in_python_is_expected_to_go_as_it_did() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            if float(x.sum()) > 0:
                self.seen = len(x)
                return F.relu(self.b(x))
            return self.b(x)

    eager, placed = pair(Branching)
    for x in (ROWS, -ROWS, 3 * ROWS, -2 * ROWS):
        for found, expected in zip(trained(placed, x), trained(eager, x), strict=True):
            close(found, expected)
    assert all("test_models.py" in plan.found[0] for plan in tp.plans(placed))
    assert [plan.broken for plan in tp.plans(placed)] == ["", ""]


def test_what_a_model_tells_a_logger_breaks_no_graph() -> None:
    class Talking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.inner(x)
            LOG.info("half way")
            return F.relu(x)

    eager, placed = pair(Talking)
    close(placed(ROWS), eager(ROWS))
    assert [plan.broken for plan in tp.plans(placed)] == [""]


def test_sizes_and_numbers_that_hang_on_values_break_no_graph() -> None:
    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.last = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.inner(x)
            rows = torch.nonzero(x.sum(1) > 0).squeeze(1)
            return self.last(x[rows]).sum(0) * x.detach().max().item()

    eager, placed = pair(Chosen)
    for x in (ROWS, ROWS * 3 + 1, -ROWS):
        for found, expected in zip(trained(placed, x), trained(eager, x), strict=True):
            close(found, expected)
    assert [plan.broken for plan in tp.plans(placed)] == [""]


class Marked(nn.Module):
    """Makes a tensor a leaf that requires gradients, as models of speech do for checkpointing."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None]
        x.requires_grad = True
        return self.inner(x)


def test_a_tensor_that_is_made_to_require_gradients_breaks_no_graph() -> None:
    eager, placed = pair(Marked)
    for model in (eager, placed):
        model(ROWS).square().mean().backward()
    for mine, theirs in zip(placed.parameters(), eager.parameters(), strict=True):
        close(mine.grad, theirs.grad)
    assert [plan.broken for plan in tp.plans(placed)] == [""]


class Guarding(nn.Module):
    """Tries what does not fit first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 4)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        try:
            return self.inner(x[:, :3])  # type: ignore[no-any-return]
        except RuntimeError:
            return self.inner(x)  # type: ignore[no-any-return]


def test_a_model_whose_capture_fails_runs_as_it_is_and_that_is_said() -> None:
    eager, placed = pair(Guarding)
    with pytest.warns(UserWarning, match=r"something of 'Guarding' cannot be captured.*sizes \(4, 3\)"):
        found = trained(placed, ROWS)
    for mine, theirs in zip(found, trained(eager, ROWS), strict=True):
        close(mine, theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        placed(ROWS)  # it is said once
    assert placed.calls == 2, "nothing is done twice"
