"""Steps as users call them: what eager does micro-batch by micro-batch, and one clear message for each mistake."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchplace as tp
from tests.stepping import cut, differences, eager_step, state, twins
from torchplace.api import session_of
from torchplace.placement.pipelining import CHOICES

pytestmark = pytest.mark.usefixtures("one_thread")

PLACED = {"topology": "local:3", "solver": "random", "seed": 1}
WIDTH, CLASSES = 8, 5


def batch(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, WIDTH, generator=generator), torch.randint(CLASSES, (rows,), generator=generator)


class Net(nn.Module):
    """Batch norm, a skip and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)
        self.tied = nn.Linear(WIDTH, WIDTH)
        self.tied.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + self.tied(self.norm(self.first(x)).relu()))


def after_eager(
    model: nn.Module, x: Any, y: Any, microbatches: int, loss_fn: Callable[..., Any] = F.cross_entropy, **options: Any
) -> dict[str, torch.Tensor]:
    """Loss, gradients and buffers of eager."""
    loss = eager_step(model, lambda m, s: loss_fn(m(x[s]), y[s]), cut(len(x), microbatches), **options)
    return {"loss": loss, **state(model)}


def check(step: Any, expected: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> None:
    """A step gives what eager has given."""
    loss = step(*args, **kwargs)
    assert not loss.requires_grad
    assert differences(expected, {"loss": loss, **state(step.model)}) == []


@pytest.mark.parametrize("schedule", CHOICES)
def test_a_step_equals_eager_under_every_schedule(schedule: str) -> None:
    x, y = batch(8)
    model, reference = twins(Net())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=4, schedule=schedule, **PLACED)
    check(step, after_eager(reference, x, y, 4), x, target=y)
    check(step, after_eager(reference, x, y, 4), x, y)
    [plan] = tp.plans(step)
    assert plan.microbatches == 4
    assert schedule in ("auto", plan.schedule)


@pytest.mark.parametrize(("rows", "microbatches"), [(7, 3), (5, 4), (2, 8), (6, 1)])
def test_rows_that_do_not_divide(rows: int, microbatches: int) -> None:
    """`torch.chunk` makes fewer, or a smaller last one."""
    x, y = batch(rows)
    model, reference = twins(Net().eval())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=microbatches, **PLACED)
    check(step, after_eager(reference, x, y, microbatches), x, y)


def test_the_number_of_rows_may_change() -> None:
    model, reference = twins(Net())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    for rows in (8, 4, 7, 12, 8):
        x, y = batch(rows, seed=rows)
        for m in (model, reference):
            m.zero_grad()
        check(step, after_eager(reference, x, y, 2), x, y)


def test_train_and_eval_are_captured_apart() -> None:
    x, y = batch(8)
    model, reference = twins(Net())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    for mode in (True, False, True):
        for m in (model, reference):
            m.train(mode).zero_grad()
        check(step, after_eager(reference, x, y, 2), x, y)


def test_optimizers_train_a_model_over_several_steps() -> None:
    x, y = batch(8)
    model, reference = twins(Net())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=4, **PLACED)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.01) for m in (model, reference)]
    for i in range(4):
        check(step, after_eager(reference, x, y, 4), x, y)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=bool(i % 2))
    assert differences(dict(reference.named_parameters()), dict(model.named_parameters()), rtol=1e-4) == []


def test_gradients_add_up_until_they_are_dropped() -> None:
    x, y = batch(6)
    model, reference = twins(Net())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    for _ in range(3):
        check(step, after_eager(reference, x, y, 3), x, y)


def test_grad_scale_multiplies_gradients_and_not_the_loss() -> None:
    x, y = batch(6)
    model, reference = twins(Net())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    check(step, after_eager(reference, x, y, 2, scale=1024.0), x, y, grad_scale=torch.tensor(1024.0))


@pytest.mark.parametrize("loss_fn", [nn.MSELoss(reduction="sum"), nn.MSELoss()])
def test_the_reduction_is_that_of_the_loss(loss_fn: nn.Module) -> None:
    x = batch(7)[0]
    y = torch.randn(7, CLASSES)
    weights = [1.0] * 2 if loss_fn.reduction == "sum" else None  # type: ignore[attr-defined]
    model, reference = twins(Net().eval())
    expected = after_eager(reference, x, y, 2, loss_fn, weights=weights)
    assert differences({"loss": loss_fn(reference(x), y)}, {"loss": expected["loss"]}) == []
    check(tp.compile(model, loss_fn=loss_fn, microbatches=2, **PLACED), expected, x, y)


def test_weights_by_the_tokens_that_count() -> None:
    """With `ignore_index`, the mean is over targets that count: micro-batches differ in how many these are."""
    x, y = batch(8)
    y[:3] = -100
    model, reference = twins(Net().eval())
    counts = [float((y[s] != -100).sum()) for s in cut(8, 4)]
    expected = after_eager(reference, x, y, 4, F.cross_entropy, weights=[c / sum(counts) for c in counts])
    expected.pop("loss")
    whole = F.cross_entropy(reference(x), y)
    step = tp.compile(
        model, loss_fn=F.cross_entropy, microbatches=4, reduction=lambda target: (target != -100).sum(), **PLACED
    )
    check(step, {"loss": whole.detach(), **expected}, x, y)


def test_a_callable_reduction_of_a_model_with_its_own_loss_sees_keyword_arguments() -> None:
    class Own(Net):
        def forward(self, x: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"loss": (super().forward(x).sum(1) * weight).sum() / weight.sum()}

    x, weight = batch(6)[0], torch.arange(1.0, 7.0)
    model, reference = twins(Own().eval())
    counts = [float(weight[s].sum()) for s in cut(6, 3)]
    parts = [c / sum(counts) for c in counts]
    loss = eager_step(reference, lambda m, s: m(x[s], weight[s])["loss"], cut(6, 3), parts)
    step = tp.compile(model, microbatches=3, reduction=lambda kwargs: kwargs["weight"].sum(), **PLACED)
    check(step, {"loss": loss, **state(reference)}, x, weight=weight)


class Pair(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor


@dataclass
class Plain:
    """Neither a tuple nor a mapping."""

    loss: torch.Tensor


class Talkative(nn.Module):
    """Returns all sorts of things."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.net, self.scale = form, nn.Linear(WIDTH, CLASSES), nn.Parameter(torch.ones(CLASSES))

    def forward(self, x: torch.Tensor) -> Any:
        logits = self.net(x)
        if self.form == "dict":
            return {
                "logits": logits,
                "x": x,
                "none": None,
                "mean": logits.mean(),
                "tag": 7,
                "scale": None if torch.is_grad_enabled() else self.scale,
            }
        if self.form == "named tuple":
            return Pair(logits * self.scale, logits)
        if self.form == "nested":
            return [logits, (logits.argmax(1), [None, x[:, :2]])]
        return logits


def _logits(output: Any) -> torch.Tensor:
    if isinstance(output, dict):
        return output["logits"]
    return output if isinstance(output, torch.Tensor) else output[0]


def _loss(output: Any, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(_logits(output), target)


@pytest.mark.parametrize("form", ["dict", "named tuple", "nested", "tensor"])
@pytest.mark.parametrize("rows", [6, 5])
def test_return_outputs_joins_the_rows_of_whatever_the_model_returns(form: str, rows: int) -> None:
    x, y = batch(rows)
    model, reference = twins(Talkative(form))
    step = tp.compile(model, loss_fn=_loss, microbatches=2, **PLACED)
    loss, outputs = step(x, y, return_outputs=True)
    expected = reference(x)
    torch.testing.assert_close(loss, _loss(expected, y).detach())
    detached = torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, expected)
    torch.testing.assert_close(outputs, detached)
    assert type(outputs) is type(expected)
    assert loss.equal(step(x, y))


def test_a_step_returns_model_outputs_of_transformers() -> None:
    from transformers.modeling_outputs import ImageClassifierOutput

    class Model(Talkative):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> ImageClassifierOutput:  # type: ignore[override]
            logits = self.net(x)
            return ImageClassifierOutput(loss=F.cross_entropy(logits, labels), logits=logits)

    x, y = batch(6)
    model, reference = twins(Model(""))
    step = tp.compile(model, microbatches=3, **PLACED)
    loss, outputs = step(x, labels=y, return_outputs=True)
    expected = reference(x, labels=y)
    assert isinstance(outputs, ImageClassifierOutput)
    torch.testing.assert_close((loss, outputs.loss, outputs.logits), (expected.loss, expected.loss, expected.logits))


def test_without_gradients_and_loss_a_step_returns_outputs() -> None:
    x, _ = batch(7)
    model, reference = twins(Talkative("dict").eval())
    step = tp.compile(model, microbatches=3, **PLACED)
    with torch.no_grad():
        torch.testing.assert_close(step(x), reference(x))
    with torch.inference_mode():
        torch.testing.assert_close(step(x)["logits"], reference(x)["logits"])


def test_without_gradients_a_loss_is_all_that_there_is() -> None:
    x, y = batch(6)
    model, reference = twins(Net())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    with torch.no_grad():
        check(step, after_eager(reference, x, y, 3), x, y)
        _, outputs = step(x, y, return_outputs=True)
        assert outputs.shape == (6, CLASSES)
    assert all(p.grad is None for p in model.parameters())


class Nested(nn.Module):
    """Takes a tensor, a pair, a dict, a flag and what all micro-batches share."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor, pair: Any, more: Any, shared: torch.Tensor, flag: bool = False) -> torch.Tensor:
        x = x + pair[0] * pair[1][:, None] + more["bias"].T
        return self.net(x * shared) * (2 if flag else 1)


def test_nested_inputs_dims_by_name_and_inputs_that_are_shared() -> None:
    x, y = batch(7)
    model, reference = twins(Nested())
    pair, more, shared = (torch.randn(7, WIDTH), torch.rand(7)), {"bias": torch.randn(WIDTH, 7)}, torch.rand(WIDTH)

    def loss_of(m: nn.Module, s: slice) -> torch.Tensor:
        output = m(x[s], tuple(t[s] for t in pair), {"bias": more["bias"][:, s]}, shared, flag=True)
        return F.cross_entropy(output, y[s])

    loss = eager_step(reference, loss_of, cut(7, 3))
    dims = {"more": 1, "shared": None}
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, batch_dims=dims, **PLACED)
    check(step, {"loss": loss, **state(reference)}, x, pair, more, shared, target=y, flag=True)


def test_inputs_that_require_gradients_get_them() -> None:
    model, reference = twins(Net().eval())
    (x, y), leaf = batch(7), torch.randn(7, WIDTH, requires_grad=True)
    other = leaf.detach().clone().requires_grad_()
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    for given in (x + other.tanh(), other):
        wanted = (lambda: x + leaf.tanh()) if given is not other else lambda: leaf
        loss = eager_step(reference, lambda m, s, w=wanted: F.cross_entropy(m(w()[s]), y[s]), cut(7, 3))  # type: ignore[misc]
        check(step, {"loss": loss, **state(reference)}, given, y)
        torch.testing.assert_close(other.grad, leaf.grad)


def test_frozen_parameters_get_no_gradients() -> None:
    x, y = batch(6)
    model, reference = twins(Net())
    for m in (model, reference):
        m.norm.requires_grad_(False)
        m.last.bias.requires_grad_(False)
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    check(step, after_eager(reference, x, y, 3), x, y)
    for m in (model, reference):
        m.norm.requires_grad_(True)
    check(step, after_eager(reference, x, y, 3), x, y)


def test_a_loss_may_have_parameters_and_buffers_of_its_own() -> None:
    class Weighted(nn.Module):
        """Its parameter is called as one of the model's."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.3))
            self.register_buffer("classes", torch.rand(CLASSES))

        def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(output, target, self.classes) * self.weight.exp()

    x, y = batch(6)
    model, reference = twins(nn.Linear(WIDTH, CLASSES))
    loss_fn, other = twins(Weighted())
    expected = after_eager(reference, x, y, 3, other)
    step = tp.compile(model, loss_fn=loss_fn, microbatches=3, topology="local:2", solver="random")
    check(step, expected, x, y)
    assert differences(state(other), state(loss_fn)) == []


class Stateful(nn.Module):
    """Counts and averages in buffers, some of them replaced, and keeps what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("total", torch.ones(()))
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        self.total = self.total * 0.5 + x.square().mean()
        self.seen = self.net(x - self.mean)
        return self.seen / self.total / self.count


@pytest.mark.parametrize("devices", [1, 3])
def test_buffers_and_attributes_are_those_of_the_last_microbatch(devices: int) -> None:
    model, reference = twins(Stateful())
    step = tp.compile(
        model, loss_fn=F.cross_entropy, microbatches=4, topology=f"local:{devices}", solver="random", seed=2
    )
    buffers = [id(b) for b in model.buffers()]
    for call in range(2):
        x, y = batch(8, seed=call)
        check(step, after_eager(reference, x, y, 4), x, y)
        assert model.seen is not None
        assert reference.seen is not None
        torch.testing.assert_close(model.seen, reference.seen.detach())
    assert [id(b) for b in model.buffers()] == buffers


def test_a_buffer_that_changes_its_shape_is_refused() -> None:
    class Growing(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = torch.cat([self.seen, x.detach()[0]])
            return super().forward(x)

    step = tp.compile(Growing(), loss_fn=F.cross_entropy, microbatches=2)
    with pytest.raises(tp.TorchplaceError, match="buffer 'seen' of Growing is replaced by something of another type"):
        step(*batch(4))


def test_inputs_are_written_to_where_the_caller_has_them() -> None:
    class Writer(Net):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            y.mul_(2).add_(x)
            return super().forward(y)

    x, target = batch(6)
    ours, theirs = torch.ones(6, WIDTH), torch.ones(6, WIDTH)
    model, reference = twins(Writer().eval())
    loss = eager_step(reference, lambda m, s: F.cross_entropy(m(x[s], theirs[s]), target[s]), cut(6, 3))
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    check(step, {"loss": loss, **state(reference)}, x, ours, target)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("what", ["input", "buffer"])
def test_writing_in_place_what_gradients_go_through_is_refused(what: str) -> None:
    class Writer(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(WIDTH))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            if what == "buffer":
                self.mean.mul_(0.9).add_(self.first(x).mean(0))
                return super().forward(x - self.mean)
            return super().forward(y.mul_(2).add_(x))

    x, target = batch(6)
    step = tp.compile(Writer(), loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    with pytest.raises(tp.CaptureError, match=f"{'y' if what == 'input' else 'mean'}' is written to in place"):
        step(x, torch.ones(6, WIDTH, requires_grad=True) * 3, target)


def test_pins_by_module_and_op_are_obeyed() -> None:
    model = Net()
    pins = {"last": "cpu:2", "norm": "cpu:1"}
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, topology="local:3", solver="single", pins=pins)
    step(*batch(4))
    where = tp.plans(step)[0].parameters
    assert (where["last.weight"], where["norm.bias"], where["first.weight"]) == ("cpu:2", "cpu:1", "cpu:0")


def test_functions_are_steps_too() -> None:
    model, reference = twins(Net())
    step = tp.compile(lambda x: model(x), loss_fn=F.cross_entropy, microbatches=3, **PLACED)
    (x, y) = batch(6)
    loss = step(x, y)
    assert differences(after_eager(reference, x, y, 3), {"loss": loss, **state(model)}) == []


class Dropping(nn.Module):
    def __init__(self, checkpointed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.checkpointed = checkpointed
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, WIDTH))
            for _ in range(3)
        )
        self.dropout = nn.Dropout(0.3)
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x))
            x = self.dropout(x)
        return self.last(x)


def test_a_seed_gives_the_same_result_on_any_placement_and_schedule() -> None:
    x, y = batch(8)
    found = []
    for schedule, options in (
        ("gpipe", {"topology": "local:1"}),
        ("1f1b", PLACED),
        ("synthesised", PLACED | {"seed": 3}),
    ):
        model = Dropping(checkpointed=True)
        step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=4, schedule=schedule, **options)
        step(x, y)
        model.zero_grad()
        torch.manual_seed(7)
        losses = {"loss": step(x, y), "next": step(x, y)}
        assert not torch.equal(*losses.values())
        found.append({**losses, **state(model), "drawn next": torch.rand(2)})
    assert differences(found[0], found[1], rtol=0) == []
    assert differences(found[0], found[2], rtol=0) == []


def test_microbatches_draw_different_numbers() -> None:
    model = nn.Dropout(0.5)
    step = tp.compile(model, loss_fn=lambda output: output.sum(), microbatches=2, topology="local:1")
    _, outputs = step(torch.ones(2, 64, requires_grad=True), return_outputs=True)
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("schedule", ["gpipe", "synthesised"])
def test_checkpointing_saves_memory_and_changes_no_gradient(schedule: str) -> None:
    x, y = batch(256)
    plain, reference = twins(Dropping().eval())
    saving = Dropping(checkpointed=True).eval()
    expected = after_eager(reference, x, y, 4)
    peaks = []
    for model in (plain, saving):
        options = {"topology": "local:2", "solver": "balanced", "schedule": schedule}
        step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=4, **options)
        check(step, expected, x, y)
        peaks.append(sum(tp.plans(step)[0].predicted.peak_memory.values()))
    assert peaks[1] < 0.9 * peaks[0]


def test_autocast_is_that_of_the_caller() -> None:
    x, y = batch(8)
    model, reference = twins(Net())
    step = tp.compile(model, loss_fn=F.cross_entropy, microbatches=2, **PLACED)
    with torch.autocast("cpu", torch.bfloat16):
        expected = after_eager(reference, x, y, 2)
        loss, outputs = step(x, y, return_outputs=True)
    assert outputs.dtype == torch.bfloat16
    assert differences(expected, {"loss": loss, **state(model)}, rtol=1e-2) == []
    for m in (model, reference):
        m.zero_grad()
    check(step, after_eager(reference, x, y, 2), x, y)


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
    "a graph break": (
        lambda: tp.compile(nn.Sequential(Net(), Break()), loss_fn=F.cross_entropy, microbatches=2),
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


def test_the_plan_of_a_step_is_validated_by_running_steps() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16))
    plan = tp.plan(
        model, (torch.randn(8, 16), torch.randn(8, 16)), loss_fn=F.mse_loss, microbatches=4, topology="local:2"
    )
    assert (plan.microbatches, plan.objective) == (4, "step")
    found = plan.validate(steps=2)
    assert found.step_time.measured > 0
    assert len(found.steps) == 2
    assert all(p.grad is None for p in model.parameters()), "a copy of the model ran"


def test_a_dynamo_backend_makes_no_steps() -> None:
    with pytest.raises(Exception, match=r"OptionError: a Dynamo backend makes no steps: call tp\.compile"):
        torch.compile(nn.Linear(2, 2), backend="torchplace", options={"microbatches": 2})(torch.randn(2, 2))


def test_a_step_runs_the_optimizer_on_each_device() -> None:
    def trained(inside: bool) -> tuple[dict[str, torch.Tensor], list[float]]:
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4)])
        groups = [{"params": model[0].parameters(), "lr": 1e-2}, {"params": model[1:].parameters()}]
        optimizer = torch.optim.AdamW(groups, lr=1e-3)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        options = {"optimizer": optimizer} if inside else {}
        step = tp.compile(
            model, loss_fn=F.mse_loss, microbatches=2, topology="local:2", solver="random", seed=1, **options
        )
        losses = []
        for i in range(5):
            x = torch.randn(4, 8, generator=torch.Generator().manual_seed(i))
            losses.append(step(x, x.sin()).item())
            if not inside:
                optimizer.step()
                optimizer.zero_grad()
            scheduler.step()
        assert all(p.grad is None for p in model.parameters())
        assert len(tp.plans(step)[0].devices_used) == 2
        return model.state_dict(), losses

    (inside, losses), (outside, expected) = trained(True), trained(False)
    assert losses == expected
    assert all(torch.equal(inside[name], outside[name]) for name in outside)
