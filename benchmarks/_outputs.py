"""The tensors in what models return."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree


def floating(output: Any) -> list[torch.Tensor]:
    """The floating-point and complex tensors of an output, however they are nested, in order."""
    leaves = pytree.tree_leaves(_plain(output))
    return [t for t in leaves if isinstance(t, torch.Tensor) and (t.is_floating_point() or t.is_complex())]


def trained(model: nn.Module) -> list[torch.Tensor]:
    """What training leaves in a model: copies of its gradients, a zero where there is none, and of its buffers."""
    gradients = [p.grad.clone() if p.grad is not None else torch.zeros(1) for p in model.parameters()]
    return gradients + [b.detach().clone() for b in model.buffers()]


def _plain(output: Any) -> Any:
    """Outputs of Hugging Face, and dataclasses, as dicts: only some of their classes are known to `pytree`."""
    if isinstance(output, dict):
        return {k: _plain(v) for k, v in output.items()}
    if is_dataclass(output) and not isinstance(output, type):
        return {f.name: _plain(getattr(output, f.name)) for f in fields(output)}
    return output
