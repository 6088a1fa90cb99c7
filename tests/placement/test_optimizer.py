from __future__ import annotations

import functools

import pytest
import torch
from torch import nn, optim
from torch.utils import _pytree as pytree

from torchplace.compiler.dry import capture_dry
from torchplace.errors import OptionError
from torchplace.placement.optimizer import KINDS, check_optimizer, optimizer_bytes, optimizer_name


class Net(nn.Module):
    """Parameters of 0, 1, 2 and 4 dims and of two dtypes; one is frozen."""

    def __init__(self, matrices_only: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(6, 3, bias=False)
        self.second = nn.Parameter(torch.randn(3, 5).double())
        self.frozen = nn.Parameter(torch.randn(5), requires_grad=False)
        self.others = nn.ParameterList([] if matrices_only else [torch.ones(()), torch.ones(5), torch.ones(5, 1, 1, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = (self.first(x).double() @ self.second).float() * self.frozen
        return y * sum(p.sum() for p in self.others) if self.others else y


def captured(model: nn.Module, training: bool = True):
    [found] = capture_dry(model, (torch.randn(2, 6),), {}, training=training)
    return found


def real_bytes(model: nn.Module, optimizer: optim.Optimizer) -> dict[str, int]:
    """The storages of the state that a step of a real optimizer leaves, by parameter; after two steps, to be sure."""
    for _ in range(2):
        model(torch.randn(2, 6)).sum().backward()
        optimizer.step()
    found = {}
    for name, parameter in model.named_parameters():
        tensors = [t for t in pytree.tree_leaves(optimizer.state.get(parameter, {})) if isinstance(t, torch.Tensor)]
        found[name] = sum(t.untyped_storage().nbytes() for t in tensors)
    return {name: nbytes for name, nbytes in found.items() if nbytes}


def by_path(found, optimizer: object) -> dict[str, int]:
    paths = {v.name: v.path for v in found.graph.inputs}
    return {paths[name]: nbytes for name, nbytes in optimizer_bytes(optimizer, found).items() if nbytes}


SETTINGS = {
    "sgd, nesterov": functools.partial(optim.SGD, momentum=0.9, nesterov=True),
    "rmsprop, centered": functools.partial(optim.RMSprop, centered=True, momentum=0.5),
    "adam, amsgrad": functools.partial(optim.Adam, amsgrad=True),
    "a class": optim.AdamW,
}


@pytest.mark.parametrize("kind", [*KINDS, *SETTINGS])
def test_the_bytes_are_those_of_a_real_optimizer(kind: str) -> None:
    model = Net(matrices_only=kind == "muon")  # which takes nothing else
    make = SETTINGS.get(kind) or KINDS[kind]
    expected = real_bytes(model, make([p for p in model.parameters() if p.requires_grad]))
    assert by_path(captured(model), SETTINGS.get(kind, kind)) == expected
    assert "frozen" not in expected
    assert (expected == {}) == (kind == "sgd")


def test_an_instance_says_for_each_of_its_parameters_what_it_keeps() -> None:
    model = Net()
    groups = [
        {"params": [model.first.weight], "momentum": 0.9},
        {"params": [model.second], "momentum": 0.0},
    ]
    optimizer = optim.SGD(groups, lr=0.1)
    assert by_path(captured(model), optimizer) == {"first.weight": 72}
    assert real_bytes(model, optimizer) == {"first.weight": 72}
    assert by_path(captured(model), optimizer) == {"first.weight": 72}, "after a step, too"
    assert optimizer.state[model.first.weight].keys() == {"momentum_buffer"}, "and it is left as it was"


def test_without_a_backward_there_is_no_state() -> None:
    assert optimizer_bytes("adam", captured(Net(), training=False)) == {}
    assert optimizer_bytes(None, captured(Net())) == {}


def test_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = nn.Linear(6, 3)
    [found] = capture_dry(model, (torch.empty(2, 6, device="meta"),), {}, training=True)
    assert by_path(found, optim.Adam(model.parameters())) == {"weight": 2 * 72 + 4, "bias": 2 * 12 + 4}


def test_names() -> None:
    given = (None, "AdamW", optim.Adam, functools.partial(optim.Adam, lr=1.0), optim.SGD([torch.ones(1)]))
    assert [optimizer_name(o) for o in given] == ["", "adamw", "Adam", "Adam", "SGD"]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("adamv", "optimizer is 'adamv'; did you mean 'adam'? Expected one of 'sgd', 'momentum', 'adam'"),
        (3, "optimizer is 3; expected one of 'sgd'"),
        (str, "optimizer is <class 'str'>; expected one of"),
    ],
)
def test_what_is_no_optimizer(optimizer: object, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_optimizer(optimizer)
    assert message in str(caught.value)


def test_what_cannot_be_known() -> None:
    found = captured(Net())
    with pytest.raises(OptionError, match="optimizer 'LBFGS': its state is not known without running it"):
        optimizer_bytes(optim.LBFGS, found)
    with pytest.raises(OptionError, match="optimizer 'muon' cannot be made of a parameter of shape"):
        optimizer_bytes("muon", found)
    with pytest.raises(OptionError, match="gave list; expected a torch.optim.Optimizer"):
        optimizer_bytes(list, found)
