"""Steps that go wrong: one clear message for each mistake, and nothing that stays behind."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from tests.stepping import PLACED, WIDTH, Nested, Net, batch, check, cut, eager_step, state, twins
from torchplace.api import session_of
from torchplace.errors import CaptureError

pytestmark = pytest.mark.usefixtures("one_thread")


def break_graph(x: torch.Tensor) -> torch.Tensor:
    torch._dynamo.graph_break()
    return x


FORGOTTEN = "the step was given one argument; its loss takes a target, too"
MISTAKES: dict[str, tuple[Callable[[], Any], tuple[Any, ...], str]] = {
    "unequal rows": (
        lambda: tp.compile(Net(), loss_fn=F.cross_entropy, microbatches=2),
        (torch.ones(4, WIDTH), torch.zeros(3, dtype=torch.int64)),
        r"input 'target' has 3 rows \(dim 0\), 'x' has 4; expected as many; pass batch_dims=\{'target': None\}",
    ),
    "no rows": (
        lambda: tp.compile(lambda a: a, loss_fn=lambda o: o.sum(), microbatches=2),
        (torch.tensor(1.0),),
        "no input of the step is a tensor with a batch dim; expected one to split",
    ),
    "no target": (lambda: tp.compile(Net(), loss_fn=F.cross_entropy), (torch.ones(4, WIDTH),), FORGOTTEN),
    "too few dims": (
        lambda: tp.compile(Net(), loss_fn=F.cross_entropy, microbatches=2, batch_dims=1),
        (torch.ones(4, WIDTH), torch.zeros(4, dtype=torch.int64)),
        r"input 'target' has 1 dim\(s\), and no dim 1",
    ),
    "a loss of many numbers": (
        lambda: tp.compile(Net(), loss_fn=lambda o, t: F.cross_entropy(o, t, reduction="none"), microbatches=2),
        (torch.ones(4, WIDTH), torch.zeros(4, dtype=torch.int64)),
        r"the loss has shape \(2,\); expected a single number",
    ),
    "a loss that is no tensor": (
        lambda: tp.compile(Net(), loss_fn=lambda o, t: 1.0, microbatches=2),
        (torch.ones(4, WIDTH), torch.zeros(4, dtype=torch.int64)),
        "the loss is a float; expected a tensor",
    ),
    "a model without a loss": (
        lambda: tp.compile(Net(), microbatches=2),
        (torch.ones(4, WIDTH),),
        "the model's output has no `loss`; pass loss_fn=",
    ),
    "a graph break where there must be none": (
        lambda: tp.compile(nn.Sequential(Net(), Break()), loss_fn=F.cross_entropy, microbatches=2, fullgraph=True),
        (torch.ones(4, WIDTH), torch.zeros(4, dtype=torch.int64)),
        "cannot capture 'Sequential'",
    ),
    "arguments that are missing": (
        lambda: tp.compile(Nested(), loss_fn=F.cross_entropy, microbatches=2),
        (torch.ones(4, WIDTH), torch.zeros(4, dtype=torch.int64)),
        "cannot capture 'Nested'",
    ),
}


class Break(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return break_graph(x)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_clear_message(mistake: str) -> None:
    make, args, message = MISTAKES[mistake]
    with pytest.raises(tp.TorchplaceError, match=message):
        make()(*args)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"microbatches": 0}, "microbatches is 0; expected a whole number of 1 or more"),
        ({"microbatches": True}, "microbatches is True"),
        ({"microbatches": 2.0}, "microbatches is 2.0"),
        ({"schedule": "pipe"}, "schedule is 'pipe'; this version knows 'auto', 'gpipe', '1f1b'"),
        ({"reduction": "none"}, "reduction is 'none'; expected 'mean', 'sum', or a function"),
        ({"batch_dims": -1}, "batch_dims is -1; expected a dim of 0 or more"),
        ({"batch_dims": {"x": "rows"}}, "batch_dims is"),
        ({"loss_fn": 3}, "loss_fn is 3; expected a function of"),
        ({"batch_dims": True}, "batch_dims is True"),
    ],
)
def test_option_values_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(tp.OptionError, match=message):
        tp.compile(Net(), **{"loss_fn": F.cross_entropy, **options})


def test_a_step_of_a_class_is_refused() -> None:
    with pytest.raises(tp.OptionError, match="cannot make a step of .*Net"):
        tp.compile(Net, loss_fn=F.cross_entropy)


class Lookup(nn.Module):
    """Fails on tokens out of range."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.a, self.b = nn.Embedding(10, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).relu() + self.table(tokens))


@pytest.mark.parametrize("devices", [1, 3])
def test_a_failing_op_is_named_and_the_next_step_works(devices: int) -> None:
    model, reference = twins(Lookup())
    good, bad, x = torch.arange(6), torch.tensor([0, 1, 2, 3, 4, 99]), torch.randn(6, WIDTH)
    step = tp.compile(
        model,
        loss_fn=lambda output: output.square().mean(),
        microbatches=3,
        topology=f"local:{devices}",
        solver="round-robin",
    )
    loss = eager_step(reference, lambda m, s: m(good[s], x[s]).square().mean(), cut(6, 3))
    for _ in range(2):
        with pytest.raises(tp.ExecutionError, match=r"aten\.embedding\.default") as raised:
            step(bad, x)
        assert isinstance(raised.value.__cause__, IndexError)
        model.zero_grad()
        check(step, {"loss": loss, **state(reference)}, good, x)
        model.zero_grad()


def test_nothing_of_a_step_is_kept_alive() -> None:
    kept: list[weakref.ref[Any]] = []

    class Watched(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    model = Watched()
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, **PLACED)

    def call(rows: int) -> None:
        x, y = batch(rows)
        loss, outputs = step(x, y, return_outputs=True)
        kept.extend(map(weakref.ref, (x, y, loss, outputs)))
        kept.extend(weakref.ref(step(x, y)) for _ in range(1))

    for rows in (6, 6, 8):
        call(rows)
    gc.collect()
    assert [r() for r in kept] == [None] * len(kept)


def test_a_step_does_not_outlive_its_user() -> None:
    model = Net()
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    step(*batch(4))
    gone = [weakref.ref(step), weakref.ref(session_of(step))]
    del step
    gc.collect()
    assert [r() for r in gone] == [None, None]


def test_a_copy_of_the_model_is_another_step() -> None:
    x, y = batch(4)
    model = Net()
    first = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    loss = first(x, y)
    other = copy.deepcopy(model)
    other.zero_grad()
    with torch.no_grad():
        other.last.weight.zero_()
    second = tp.compile(other, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    assert not torch.equal(loss, second(x, y))
    assert repr(second) == "<Step of 'Net': 2 micro-batch(es), schedule 'auto'>"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_step_is_not_copied(copied: Callable[[Any], Any]) -> None:
    step = tp.compile(Net(), loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    with pytest.raises(TypeError, match=r"Step of 'Net'.* cannot be copied or pickled.*; copy, or pickle, the model"):
        copied(step)


def test_sizes_that_do_not_fit_are_told_with_the_op_and_its_line() -> None:
    step = tp.compile(nn.Linear(4, 3), loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    said = r"cannot capture 'Linear': linear of tensors of sizes \(2, 5\), \(3, 4\), \(3,\): RuntimeError: .*\[2, 5\].*line \d+"
    with pytest.raises(CaptureError, match=said):
        step(torch.randn(4, 5), target=torch.zeros(4, dtype=torch.long))


def test_a_dynamo_backend_makes_no_steps() -> None:
    with pytest.raises(Exception, match=r"OptionError: a Dynamo backend makes no steps: call tp\.compile"):
        torch.compile(nn.Linear(2, 2), backend="torchplace", options={"microbatches": 2})(torch.randn(2, 2))
