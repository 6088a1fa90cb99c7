"""Subject: what a step is of, as it is captured, whole or in parts."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from torchplace.compiler import dynamo
from torchplace.compiler.joint import Loss
from torchplace.runtime.session import Session


@dataclass(eq=False)
class Subject:
    """What a step is of.

    Attributes:
        model: a module or a function of tensors.
        session: plans and runs what is captured.
        loss_fn: of (output, target), or of the output alone; None for a model whose output has a `loss`.
        dynamic: dynamic shapes, as `torch.compile` takes it.
        name: of the model.
        arguments: names of its positional arguments, where it is a module.
    """

    model: Callable[..., Any]
    session: Session
    loss_fn: Loss | None = None
    dynamic: bool | None = None

    def __post_init__(self) -> None:
        self.name = dynamo.name_of(self.model)
        self.arguments = dynamo.argument_names(self.model)

    def names(self) -> Mapping[int, str]:
        """Id of each parameter and buffer -> its full name."""
        if not isinstance(self.model, nn.Module):
            return {}
        named = (self.model.named_buffers(), self.model.named_parameters())
        return {id(tensor): name for pairs in named for name, tensor in pairs}

    def owners(self) -> dict[nn.Parameter, str]:
        """Parameter -> the device that it lives on."""
        parameters = dict(self.model.named_parameters()) if isinstance(self.model, nn.Module) else {}
        owned = self.session.owners.of(parameters)
        return {parameters[name]: device for name, device in owned.items() if parameters[name].device.type != "meta"}


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that does not keep its object alive: Dynamo's caches, where no garbage is found, hold it."""
    found = weakref.WeakMethod(method)
    return lambda *args: found()(*args)  # type: ignore[misc]
