from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from torchplace.compiler.dry import capture_dry
from torchplace.errors import CaptureError


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.parametrize("training", [False, True])
def test_a_model_on_the_meta_device_gives_the_same_graph(training: bool) -> None:
    real, meta = net(), net().to("meta")
    x = torch.randn(3, 4)
    [here] = capture_dry(real, (x,), {}, training=training)
    [there] = capture_dry(meta, (x.to("meta"),), {}, training=training)
    [mixed] = capture_dry(meta, (x,), {}, training=training)
    assert there.graph.fingerprint() == here.graph.fingerprint() == mixed.graph.fingerprint()
    assert str(there.graph) == str(here.graph)
    assert there.graph.home == here.graph.home == "cpu"


def test_nothing_is_allocated() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(1 << 20, 1 << 20), nn.Linear(1 << 20, 1 << 20))  # 4 TiB each
    [captured] = capture_dry(model, (torch.empty(1 << 10, 1 << 20, device="meta"),), {}, training=True)
    assert sum(v.nbytes for v in captured.graph.inputs if v.kind == "parameter") > 1 << 43
    assert all(p.device.type == "meta" for p in model.parameters())


class Fails(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("scale", torch.ones(4))
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x) * self.scale
        torch._dynamo.graph_break()
        if x.shape[0]:
            raise self.error
        return x


@pytest.mark.parametrize("model", [net(), Fails(ValueError("mine"))])
def test_the_model_is_left_as_it_was(model: nn.Module) -> None:
    held = dict(model.named_parameters()) | dict(model.named_buffers())
    before = {name: t.clone() for name, t in held.items()}
    try:
        capture_dry(model, (torch.randn(3, 4),), {}, training=True)
    except CaptureError:
        assert isinstance(model, Fails)
    after = dict(model.named_parameters()) | dict(model.named_buffers())
    assert list(after) == list(held)
    assert all(after[name] is t for name, t in held.items())
    assert all(torch.equal(before[name], t) for name, t in held.items()), "running statistics did not move"


def test_tied_parameters_are_tied_again() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    capture_dry(model, (torch.randn(3, 4),), {}, training=False)
    assert model[1].weight is model[0].weight


def test_gradients_and_grad_mode_are_left_alone() -> None:
    model, x = nn.Linear(4, 4), torch.randn(3, 4, requires_grad=True)
    with torch.no_grad():
        capture_dry(model, (x,), {}, training=True)
        assert not torch.is_grad_enabled()
    assert x.grad is None
    assert model.weight.grad is None
    assert torch.is_grad_enabled()


SEEN: list[int] = []


def branch(x: torch.Tensor) -> torch.Tensor:
    if x.sum() > 0:
        SEEN.append(len(x))
        return x + 1
    return x * 2


def stopped(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    torch._dynamo.graph_break()
    return y * 2


def mistaken(x: torch.Tensor) -> torch.Tensor:
    return x @ x


def raising(x: torch.Tensor) -> torch.Tensor:
    raise ValueError("no weights yet")


def idle(x: torch.Tensor) -> torch.Tensor:
    return x


ADVICE = "compile it with tp.compile and call it, then read tp.plans(model)"
MESSAGES = [
    (stopped, True, ["cannot capture 'stopped': ", "User-inserted graph break", "test_dry.py", "in stopped"]),
    (branch, True, ["cannot capture 'branch': ", "test_dry.py", "in branch"]),
    (branch, False, ["cannot capture 'branch' without running it after 1 graph(s): ", ADVICE]),
    (mistaken, True, ["cannot capture 'mistaken': ", "[2, 3] X [2, 3]", "test_dry.py", "in mistaken"]),
    (raising, True, ["cannot capture 'raising': ", "no weights yet", "in raising"]),
    (raising, False, ["cannot capture 'raising' without running it: ValueError: no weights yet; ", ADVICE]),
    (idle, False, ["capturing 'idle' found no op on tensors: nothing to place"]),
]


@pytest.mark.parametrize(("function", "fullgraph", "parts"), MESSAGES)
def test_what_cannot_be_captured(function: Callable[..., torch.Tensor], fullgraph: bool, parts: list[str]) -> None:
    with pytest.raises(CaptureError) as caught:
        capture_dry(function, (torch.ones(2, 3),), {}, training=False, fullgraph=fullgraph)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_the_error_names_the_module() -> None:
    with pytest.raises(CaptureError, match="cannot capture 'Fails'"):
        capture_dry(Fails(KeyError("nope")), (torch.randn(3, 4),), {}, training=False)
