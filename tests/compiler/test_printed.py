"""What a model prints is printed, once for each call or micro-batch, and breaks no graph."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchplace as tp
from tests.pairs import close, pair, trained, twice
from torchplace.compiler.acts import acting, only_timed
from torchplace.compiler.printed import printed_line

pytestmark = pytest.mark.usefixtures("forgotten")

Read = pytest.CaptureFixture[str]


ANYTHING = object()


class Talking(nn.Module):
    """Says something of what is between its layers."""

    def __init__(self, say: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self.first, self.last, self.say = nn.Linear(8, 6), nn.Linear(6, 3), say

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        self.say(y)
        result: torch.Tensor = self.last(y)
        return result


SAYINGS: dict[str, Callable[[torch.Tensor], None]] = {
    "texts": lambda y: print("a", 1, 2.5, None, True, {"k": "{v}"}, "{0}"),
    "nothing": lambda y: print(),
    "how": lambda y: print("a", y.dim(), sep=" - ", end="!\n", flush=True),
    "sizes": lambda y: print("shape:", y.shape, y.size(0), y.dtype),
    "a list": lambda y: print([y.shape[0], "b"], (y.shape[0],), tuple(y.shape)),
    "an f-string": lambda y: print(f"{y.shape[0]} rows, {'{}'} of {y.shape[1]!r:>5}"),
    "a number": lambda y: print("mean", y.mean().item(), int(y.argmax()), bool((y > 0).any())),
    "a number in an f-string": lambda y: print(f"mean {y.mean().item():.3f}, {y.mean():+.2e}"),
    "a tensor in an f-string": lambda y: print(f"{y.mean()} and {y.detach()[0, :2]}"),
    "a tensor": lambda y: print(y.detach(), y.detach().mean()),
    "format": lambda y: print("{1} of {0} {n:03d}".format("a", y.shape[0], n=y.shape[0])),
}


@pytest.mark.parametrize("what", SAYINGS)
def test_the_same_is_printed_as_in_eager(what: str, capsys: Read) -> None:
    """In calls with gradients and without, with another number of rows, too."""
    eager, placed = pair(lambda: Talking(SAYINGS[what]), fullgraph=True)
    for rows in (4, 5, 6):
        x = torch.randn(rows, 8)
        said = []
        for model in (eager, placed):
            results = trained(model, x)
            with torch.no_grad():
                results.append(model(x))
            said.append((results, capsys.readouterr().out))
        close(said[1][0], said[0][0])
        assert said[1][1] == said[0][1] != ""


@pytest.mark.parametrize("training", [True, False])
def test_steps_print_for_each_micro_batch(training: bool, capsys: Read) -> None:
    eager, model = twice(lambda: Talking(SAYINGS["a number in an f-string"]))
    step = tp.compile(model, loss_fn=nn.functional.mse_loss, microbatches=3, topology="local:2", solver="random")
    x, y = torch.randn(6, 8), torch.randn(6, 3)
    with torch.set_grad_enabled(training):
        step(x, y)
        found = capsys.readouterr().out
        for part in x.chunk(3):
            eager(part)
    assert sorted(found.splitlines()) == sorted(capsys.readouterr().out.splitlines())


def test_timing_ops_prints_nothing(capsys: Read) -> None:
    """Nor does it call hooks: nobody has called the model."""
    called: list[int] = []
    model = Talking(SAYINGS["sizes"])
    model.first.register_full_backward_hook(lambda *_: called.append(1))
    placed = tp.compile(model, topology="local:2", solver="random", cost="measured")
    placed(torch.randn(4, 8, requires_grad=True)).sum().backward()
    assert capsys.readouterr().out == "shape: torch.Size([4, 6]) 4 torch.float32\n"
    assert called == [1]


def test_what_is_checkpointed_prints_once(capsys: Read) -> None:
    class Checkpointed(Talking):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = checkpoint(super().forward, x, use_reentrant=False)
            return result

    eager, placed = pair(lambda: Checkpointed(SAYINGS["sizes"]))
    x = torch.randn(4, 8)
    close(trained(placed, x), trained(eager, x))
    assert capsys.readouterr().out.count("shape: torch.Size([4, 6])") == 1 + 2, "eager prints again when it runs again"
    assert not any(plan.broken for plan in tp.plans(placed))


@pytest.mark.parametrize(
    "say",
    [lambda y: print("a", file=sys.stderr), lambda y: print(ANYTHING), lambda y: print(y.detach().numpy().sum())],
    ids=["to a file", "an object", "of numpy"],
)
def test_what_a_graph_cannot_print_breaks_it(say: Callable[[torch.Tensor], None], capsys: Read) -> None:
    eager, placed = pair(lambda: Talking(say))
    x = torch.randn(4, 8)
    close(placed(x), eager(x))
    said = capsys.readouterr()
    assert len({*said.out.splitlines(), *said.err.splitlines()}) >= 1
    assert any(plan.broken for plan in tp.plans(placed))


def test_only_timed_ops_do_nothing_else(capsys: Read) -> None:
    with only_timed():
        assert not acting()
        printed_line("a\n", [])
    assert acting()
    printed_line("{tensor0!s} {number0}\n", [torch.tensor(2)])
    assert capsys.readouterr().out == "tensor(2) 2\n"
