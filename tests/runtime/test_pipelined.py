"""Steps as users call them: what eager does micro-batch by micro-batch, and one clear message for each mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchplace as tp
from tests.stepping import (
    CLASSES,
    PLACED,
    WIDTH,
    Nested,
    Net,
    after_eager,
    batch,
    check,
    cut,
    differences,
    eager_step,
    state,
    twins,
)
from torchplace.placement.pipelining import CHOICES

pytestmark = pytest.mark.usefixtures("one_thread")


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
    # Not Adam: a bias before batch norm has a gradient that is nothing but rounding, which Adam makes as large as others.
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in (model, reference)]
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


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])  # whose memory hangs on no times
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
