"""Hints end to end: models that run where hints say, and give what eager gives to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchplace as tp
from torchplace.api import session_of
from torchplace.compiler.capture import Captured
from torchplace.placement.hints import Wishes, read_hints
from torchplace.placement.plan import Plan
from torchplace.runtime.session import Session

pytestmark = pytest.mark.usefixtures("one_thread")

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A layer whose buffers are written in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(x)).relu()


class Net(nn.Module):
    """A block that is called twice, a block of code with an inner one, a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Block(), Block()
        self.head, self.tied = nn.Linear(8, 8), nn.Linear(8, 8)
        self.tied.weight = self.head.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(x))
        with tp.place("cpu:1"):
            x = self.head(x.tanh())
            with tp.place("cpu:0"):
                x = x.sin()
        return self.tied(self.first(x)).exp()


def net() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def step(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Output, gradients and buffers of a training step."""
    x = x.clone().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return (y.detach(), x.grad, *gradients, *(b.clone() for b in model.buffers()))


def equal(ours: tuple[torch.Tensor, ...], eager: tuple[torch.Tensor, ...]) -> None:
    for a, b in zip(ours, eager, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def kept(captured: Captured, plan: Plan, **wishes: Any) -> int:
    """How many ops hints are about; every one of them is kept."""
    hints = read_hints(captured.graph, plan.topology.device_names, Wishes(**{"pins": {}, **wishes}))
    where = plan.placement
    for hint in hints:
        devices = {where[op] for op in hint.ops}
        if hint.kind == "pin":
            assert devices == set(hint.devices), hint.text
        elif hint.kind == "forbid":
            assert devices.isdisjoint(hint.devices), hint.text
        else:
            assert len(devices) == 1, hint.text
    return len({op for hint in hints for op in hint.ops})


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[Captured]:
    """Every graph that sessions are handed, in order."""
    found: list[Captured] = []
    original = Session.__call__

    def noted(session: Session, captured: Captured) -> Any:
        found.append(captured)
        return original(session, captured)

    monkeypatch.setattr(Session, "__call__", noted)
    return found


@pytest.mark.parametrize("solver", ["random", "auto"])
def test_training_and_inference_keep_to_all_hints_and_equal_eager(solver: str, captures: list[Captured]) -> None:
    eager = net()
    model = copy.deepcopy(eager)
    tp.place(model.second.layer, "cpu:2")
    wishes = {"pins": {"second.norm": "cpu:1"}, "together": [("first", "tied")], "forbid": {"first": ("cpu:2",)}}
    tp.compile(model, topology="local:3", solver=solver, seed=5, **wishes)
    eager.eval()
    model.eval()
    with torch.no_grad():
        equal((model(X),), (eager(X),))
    eager.train()
    model.train()
    equal(step(model, X), step(eager, X))
    equal(step(model, X[:4]), step(eager, X[:4]))
    plans = tp.plans(model)
    assert len(captures) == len(plans) >= 2, "the later ones follow the parameters, and keep to hints too"
    phases = set()
    for captured, plan in zip(captures, plans, strict=True):
        assert kept(captured, plan, **wishes) > 10
        phases |= {op.phase for op in captured.graph.ops if op.hint == "cpu:1"}
    assert phases == {"forward", "backward", "weight-grad"}
    homes = plans[0].parameter_devices()
    assert homes["second.layer.weight"] == "cpu:2"
    assert homes["second.norm.weight"] == homes["head.weight"] == "cpu:1"
    assert homes["first.layer.weight"] == homes["first.norm.running_mean"] != "cpu:2"


def _planned(model: nn.Module) -> Plan:
    return tp.plan(model, (X,), topology="local:3", solver="random", seed=1)


def _compiled(model: nn.Module) -> Plan:
    compiled = tp.compile(model, topology="local:3", solver="random", seed=1)
    with torch.no_grad():
        compiled(X)
    return tp.plans(compiled)[0]


def _backend(model: nn.Module, **options: Any) -> list[Session]:
    """The sessions of what `torch.compile` captured."""
    found: list[Session] = []
    original = Session.__call__

    def noted(session: Session, captured: Captured) -> Any:
        found.append(session)
        return original(session, captured)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(Session, "__call__", noted)
        compiled = torch.compile(model, backend="torchplace", options={"topology": "local:3", **options})
        torch.testing.assert_close(compiled(X), copy.deepcopy(model)(X), rtol=0, atol=0)
    torch._dynamo.reset()  # or else a model that is alike shares what was captured of this, and its sizes are remembered
    return found


def _as_backend(model: nn.Module) -> Plan:
    return _backend(model, solver="random", seed=1)[0].plans[-1]


@pytest.mark.parametrize("way", [_planned, _compiled, _as_backend])
def test_every_way_to_capture_sees_the_marks(way: Callable[[nn.Module], Plan]) -> None:
    model = nn.Sequential(nn.Linear(8, 8), Block(), nn.Linear(8, 8)).eval()
    tp.place(model, "cpu:2")
    tp.place(model[1], "cpu:1")
    plan = way(copy.deepcopy(model))
    assert plan.parameter_devices() == {
        name: "cpu:1" if name.startswith("1.") else "cpu:2" for name in plan.parameter_devices()
    }
    assert set(plan.devices_used) == {"cpu:1", "cpu:2"}


def test_the_backend_takes_hints_as_options() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    hints = {"pins": {"0": "cpu:2"}, "forbid": {"2": ["cpu:0", "cpu:2"]}, "together": [["0", "1"]]}
    [session] = _backend(model, **hints)
    [again] = _backend(copy.deepcopy(model), **copy.deepcopy(hints))
    [other] = _backend(copy.deepcopy(model), **{**hints, "pins": {"0": "cpu:1"}})
    assert session is again is not other, "a session is for options that are alike"
    where = session.plans[0].parameter_devices().items()
    assert {name.split(".")[-2]: device for name, device in where} == {"0": "cpu:2", "2": "cpu:1"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"topology": "local:1"}, tp.OptionError, r"tp.place\('cpu:1'\) around op '.*' \(.*\) is 'cpu:1', which is no"),
        ({"pins": {"head": "cpu:0"}}, tp.InfeasibleError, r"tp.place\('cpu:1'\) and pin 'head': 'cpu:0' clash over op"),
        ({"forbid": {"head": "cpu:1"}}, tp.InfeasibleError, r"tp.place\('cpu:1'\) and forbid 'head': 'cpu:1' clash"),
        ({"forbid": {"first": ["cpu:0", "cpu:1"]}}, tp.InfeasibleError, "no device is left for op .*: forbid 'first'"),
    ],
)
def test_hints_that_cannot_hold(options: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"topology": "local:2", **options}
    with pytest.raises(error, match=message):
        tp.plan(net(), (X,), **given)
    model = tp.compile(net(), **given)
    with pytest.raises(error, match=message):
        model(X)


def test_compare_keeps_to_hints(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(*(tp.place(nn.Linear(8, 8), f"gpu:{i}") for i in (3, 5)), nn.Linear(8, 8))
    common = {"topology": "big-sur", "solvers": ["single", "heft"], "forbid": {"2": "gpu:0"}}
    for row in tp.compare(model, (X,), together=[["1", "2"]], **common):
        assert row.plan is not None
        assert row.plan.devices_used == ("gpu:3", "gpu:5")
    for row in tp.compare(model, (X,), together=[["0", "2"], "1", "1.*"], pins={"2": "gpu:5"}, **common):
        assert row.reason.startswith("tp.place('gpu:3') and pin '2': 'gpu:5' clash over")


def test_a_graph_break_in_a_placed_module() -> None:
    class Breaks(Block):
        """Its second half is another graph."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layer(x)
            torch._dynamo.graph_break()
            return self.norm(x)

    torch.manual_seed(0)
    model = nn.ModuleDict({"a": Breaks(), "b": Block()})

    def forward(x: torch.Tensor) -> torch.Tensor:
        return model["b"](model["a"](x))

    expected = forward(X)
    tp.place(model["a"], "cpu:1")
    compiled = tp.compile(forward, topology="local:2", solver="single")
    torch.testing.assert_close(compiled(X), expected, rtol=0, atol=0)
    devices = [set(plan.devices_used) for plan in session_of(compiled).plans]
    assert devices == [{"cpu:1"}, {"cpu:1"}, {"cpu:0"}]
