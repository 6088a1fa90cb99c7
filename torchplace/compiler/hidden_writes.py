"""What a model writes to parameters behind autograd's back: `weight.data *= mask`, `weight.data = ...`.

Both are captured as writes to the parameter itself where gradients are off. AOTAutograd takes the first for a write
that gradients go through, for it looks at where gradients are off alone, and the second not at all where there is a
backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch._dynamo.variables.constant import ConstantVariable

from torchplace.compiler.traced import traced_call
from torchplace.compiler.writes import writes_in_place

_data: Callable[..., Any] = torch._C._autograd._get_data_attr  # type: ignore[attr-defined]
"""What `.data` is in Dynamo's graphs."""


def assigned_data(tx: Any, tensor: Any, values: Any) -> Any:
    """Trace `tensor.data = values`, given variables of Dynamo's, of tensors of one shape and dtype."""
    traced_call(tx, _write, [tensor, values], {})
    return ConstantVariable.create(None)


def _write(tensor: torch.Tensor, values: torch.Tensor) -> None:
    """Write values into the tensor itself, which stays where it is."""
    with torch.no_grad():
        tensor.detach().copy_(values)


def alike(tensor: Any, values: Any) -> bool:
    """Whether two variables of Dynamo's have tensors of the same shape and dtype."""
    mine, theirs = (variable.as_proxy().node.meta.get("example_value") for variable in (tensor, values))
    known = isinstance(mine, torch.Tensor) and isinstance(theirs, torch.Tensor)
    return known and mine.dtype == theirs.dtype and mine.shape == theirs.shape


def hide_writes(module: fx.GraphModule) -> None:
    """Let gradients be off in Dynamo's graph where something is written through `.data`, in place."""
    graph, enabled, aliases = module.graph, torch.is_grad_enabled(), set[fx.Node]()
    for node in list(graph.nodes):
        if node.target is torch._C._set_grad_enabled:
            enabled = bool(node.args[0])
        elif node.target is _data:
            aliases.add(node)
        elif node.all_input_nodes and node.all_input_nodes[0] in aliases:
            if enabled and writes_in_place(node) and not any(map(_has_gradient, node.all_input_nodes)):
                with graph.inserting_before(node):
                    graph.call_function(torch._C._set_grad_enabled, (False,))
                with graph.inserting_after(node):
                    graph.call_function(torch._C._set_grad_enabled, (True,))
            if _shares(node, node.all_input_nodes[0]):
                aliases.add(node)
    if aliases:
        module.recompile()


def _has_gradient(node: fx.Node) -> bool:
    return bool(getattr(node.meta.get("example_value"), "requires_grad", False))


def _shares(one: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes give tensors of the same memory."""
    tensors = [node.meta.get("example_value") for node in (one, other)]
    return all(isinstance(t, torch.Tensor) for t in tensors) and torch._C._is_alias_of(*tensors)  # type: ignore[attr-defined]
