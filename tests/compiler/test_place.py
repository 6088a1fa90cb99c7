from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from torchplace.compiler.capture import Captured, Capturer
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.graph import Graph
from torchplace.compiler.place import device_around, place, unless_elsewhere
from torchplace.errors import CaptureError, ExecutionError, OptionError

X = torch.randn(3, 4)


class Block(nn.Module):
    """A layer whose buffers are written in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return torch.relu(self.norm(self.layer(x))) * scale


class Net(nn.Module):
    """A layer that is called twice, a block in a list, and a layer that is no submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.Linear(4, 4), nn.Sequential(Block(), nn.Tanh())
        self.again = self.first
        self.hidden = [nn.Linear(4, 4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hidden[0](self.again(self.rest(self.first(x)))).sin()


def graph_of(target: Callable[..., Any], *, training: bool = False) -> Graph:
    [captured] = capture_dry(target, (X,), {}, training=training, fullgraph=True)
    return captured.graph


def hints(target: Callable[..., Any]) -> list[tuple[str, str]]:
    """What each op of a function calls, and its hint."""
    return [(op.target.split(".")[1], op.hint) for op in graph_of(target).ops]


def test_a_block_means_what_is_called_in_it_and_the_inner_one_counts() -> None:
    def called(x: torch.Tensor) -> torch.Tensor:
        return x.tanh()

    def function(x: torch.Tensor) -> torch.Tensor:
        x = x.cos()
        with place("gpu:0"):
            x = called(x.sin())
            with place("gpu:1"):
                x = called(x)
            x = x.exp()
        return called(x)

    assert hints(function) == [
        ("cos", ""), ("sin", "gpu:0"), ("tanh", "gpu:0"), ("tanh", "gpu:1"), ("exp", "gpu:0"), ("tanh", ""),
    ]  # fmt: skip
    assert torch.equal(function(X), X.cos().sin().tanh().tanh().exp().tanh()), "uncompiled, blocks do nothing"


def test_a_block_that_is_left_early() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        try:
            for i in range(3):
                with place("gpu:0"):
                    x = x.sin()
                    if i == 1:
                        raise ValueError
        except ValueError:
            x = x.cos()
        return x

    assert hints(function) == [("sin", "gpu:0"), ("sin", "gpu:0"), ("cos", "")]
    assert torch.equal(function(X), X.sin().sin().cos())
    assert device_around() == ""


def test_marks_reach_the_backward_pass() -> None:
    net = Net()
    place(net.first, "gpu:1")
    place(net.rest, "gpu:2")
    graph = graph_of(net, training=True)
    expected = {"first": "gpu:1", "again": "gpu:1", "rest": "gpu:2"}
    phases = set()
    for op in graph.ops:
        if op.module:
            assert op.hint == expected.get(op.module.split(".")[0], ""), op
            phases.add((op.phase, op.hint))
    assert phases >= {(phase, hint) for phase in ("forward", "backward", "weight-grad") for hint in ("gpu:1", "gpu:2")}


def test_an_inner_module_and_an_inner_block_count() -> None:
    class Outer(nn.Module):
        """Half of it is in a block."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.plain = place(nn.Tanh(), "gpu:1"), nn.Sigmoid()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.plain(x.sin())
            with place("gpu:2"):
                return self.plain(self.inner(x))

    outer = place(Outer(), "gpu:0")
    expected = [("sin", "gpu:0"), ("sigmoid", "gpu:0"), ("tanh", "gpu:1"), ("sigmoid", "gpu:2")]
    assert hints(outer) == expected
    assert hints(copy.deepcopy(outer)) == expected


def test_the_root_and_what_is_no_submodule() -> None:
    net = place(Net(), "gpu:0")
    place(net.hidden[0], "gpu:1")
    graph = graph_of(net.eval())
    assert {op.hint for op in graph.ops if op.module != "hidden[0]"} == {"gpu:0"}
    assert {op.hint for op in graph.ops if op.module == "hidden[0]"} == {"gpu:1"}


@pytest.mark.parametrize("training", [False, True])
def test_nothing_but_hints_changes_in_the_graph(training: bool) -> None:
    net = Net()
    plain = graph_of(net, training=training)
    for module in (net, net.rest, net.rest[0].layer, net.hidden[0]):
        place(module, "gpu:1")
    placed = graph_of(net, training=training)
    assert "'hint': 'gpu:1'" in str(placed)
    assert re.sub(r" \| {'hint': 'gpu:1'}|(, )?'hint': 'gpu:1'", "", str(placed)) == str(plain)
    assert placed.fingerprint() == plain.fingerprint()


def test_the_module_stays_what_it_is() -> None:
    plain = Net()
    net = copy.deepcopy(plain)
    assert place(net.rest[0], "gpu:1") is net.rest[0]
    assert place(net, "gpu:0") is net
    assert type(net) is Net
    assert list(net.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in net.named_modules()] == [name for name, _ in plain.named_modules()]
    assert inspect.signature(net.rest[0].forward) == inspect.signature(plain.rest[0].forward)
    assert torch.equal(net(X), plain(X))
    assert torch.equal(net.rest[0](X, scale=3.0), plain.rest[0](X, scale=3.0))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_the_mark_and_weights_of_its_own(copied: Callable[[nn.Module], nn.Module]) -> None:
    net = place(nn.Sequential(place(nn.Linear(4, 4), "gpu:1"), nn.Tanh()), "gpu:0")
    other = copied(net)
    assert torch.equal(other(X), net(X))
    with torch.no_grad():
        other[0].weight.zero_()
    assert not torch.equal(other(X), net(X))
    assert {(op.module, op.hint) for op in graph_of(other).ops} == {("0", "gpu:1"), ("1", "gpu:0")}


def test_the_last_device_of_a_module_counts_and_a_forward_of_its_own_stays() -> None:
    layer = nn.Tanh()
    layer.forward = lambda x: x.sin()  # type: ignore[method-assign]
    place(place(layer, "gpu:0"), "gpu:1")
    assert hints(layer) == [("sin", "gpu:1")]


def test_checkpoints_and_branches() -> None:
    def branch(x: torch.Tensor) -> torch.Tensor:
        with place("gpu:1"):
            return x.sin()

    def recomputed(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(branch, x.cos(), use_reentrant=False)

    def branches(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, branch, torch.cos, (x,))

    assert hints(recomputed) == [("cos", ""), ("sin", "gpu:1")]
    assert hints(branches)[-1] == ("cond", "gpu:1"), "all of it is one op"

    def both(x: torch.Tensor) -> torch.Tensor:
        with place("gpu:0"):
            return branches(x)

    with pytest.raises(CaptureError, match=r"op 'cond' \(.*test_place.py:\d+\) runs on one device.*'gpu:0', 'gpu:1'"):
        graph_of(both)


class Breaks(nn.Module):
    """Its second half is captured apart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _breaks(x.sin()).exp()


def _breaks(x: torch.Tensor) -> torch.Tensor:
    x = x.cos()
    torch._dynamo.graph_break()
    return x.tanh()


def _all_hints(target: Callable[..., Any]) -> list[tuple[str, str]]:
    found = capture_dry(target, (X,), {}, training=False)
    return [(op.target.split(".")[1], op.hint) for captured in found for op in captured.graph.ops]


def test_a_graph_break_in_a_module_loses_no_mark() -> None:
    class Outer(nn.Module):
        """Calls what breaks."""

        def __init__(self) -> None:
            super().__init__()
            self.breaks = place(Breaks(), "gpu:1")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.breaks(x.sigmoid()).sigmoid()

    inside = [(target, "gpu:1") for target in ("sin", "cos", "tanh", "exp")]
    assert _all_hints(place(Breaks(), "gpu:1")) == inside
    assert _all_hints(Outer()) == [("sigmoid", ""), *inside, ("sigmoid", "")]
    assert device_around() == ""


def test_a_graph_break_in_a_block() -> None:
    kept = place("gpu:1")

    def in_statement(x: torch.Tensor) -> torch.Tensor:
        with place("gpu:1"):
            return _breaks(x)

    def made_before(x: torch.Tensor) -> torch.Tensor:
        with kept:
            return _breaks(x)

    for function in (in_statement, made_before):
        assert _all_hints(function) == [("cos", "gpu:1"), ("tanh", "gpu:1")]
        assert torch.equal(function(X), X.cos().tanh())


def test_a_block_around_a_capture_is_the_outermost() -> None:
    net = Net()
    place(net.rest, "gpu:1")
    with place("gpu:0"):
        graph = graph_of(net, training=True)
    written = [op for op in graph.ops if op.mutates]
    assert written
    assert {op.hint for op in written} == {""}, "a buffer is written where it is, not where the call is"
    rest = [op for op in graph.ops if not op.mutates]
    assert all(op.hint == ("gpu:1" if op.module.startswith("rest") else "gpu:0") for op in rest)


def test_what_was_captured_elsewhere_is_refused() -> None:
    run = unless_elsewhere(lambda x: x + 1)
    assert run(1) == 2
    with place("gpu:0"):
        inside = unless_elsewhere(lambda x: x + 2)
        assert inside(1) == 3
        with pytest.raises(ExecutionError, match=r"tp.place\('gpu:0'\) is around code that was captured outside"):
            run(1)
        with place("gpu:1"), pytest.raises(ExecutionError, match=r"captured within tp.place\('gpu:0'\)"):
            inside(1)
    assert inside(1) == 3, "no block asks for anything else"


def test_the_capturer_refuses_too() -> None:
    def keep(captured: Captured) -> list[Callable[[list[Any]], Sequence[Any]]]:
        return [lambda args: (args[0].clone(),)] * len(captured.parts)

    compiled = torch.compile(lambda x: x.sin(), backend=Capturer(keep))
    compiled(X)
    with place("gpu:0"), pytest.raises(ExecutionError, match="compile it anew"):
        compiled(X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "tp.place: the device is ''"),
        ((3,), "tp.place: the device is 3"),
        (("gpu:0", "gpu:1"), r"tp.place\('gpu:0', 'gpu:1'\): expected tp.place\(module, device\)"),
        ((nn.Tanh(),), "tp.place: the device is None; expected the name of one, such as 'gpu:1'"),
        ((nn.Tanh(), torch.device("cpu")), "tp.place: the device is device"),
    ],
)
def test_mistakes(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        place(*arguments)
