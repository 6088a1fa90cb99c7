"""Tensors that a model makes and has autograd track (`x.requires_grad = True`), and what it derives by them.

Models do so for forces and physics-informed losses, or so that reentrant checkpointing finds an input that requires
gradients (wav2vec2 and its like).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import fx
from torch._dynamo.output_graph import OutputGraph
from torch._dynamo.variables.builtin import SetAttrBuiltinVariable
from torch._dynamo.variables.constant import ConstantVariable
from torch._dynamo.variables.nn_module import UnspecializedNNModuleVariable
from torch._dynamo.variables.tensor import TensorVariable

from torchplace.compiler.hidden_writes import alike, assigned_data
from torchplace.compiler.traced import traced_call

_assign = SetAttrBuiltinVariable._call_setattr
_check = OutputGraph._check_requires_grad_intermediate_outputs


def _assigned(self: SetAttrBuiltinVariable, tx: Any, obj: Any, name: Any, value: Any) -> Any:
    """Take the assignment as the method, of a tensor that the model has made; Dynamo by itself does not trace it.

    An assignment of other data writes it (`hidden_writes`).
    """
    if obj.is_tensor() and obj.source is None and _is(name, "requires_grad") and _is(value, True):
        obj.method_requires_grad_(tx)
        return ConstantVariable.create(None)
    if obj.is_tensor() and obj.source is not None and _is(name, "data") and value.is_tensor() and alike(obj, value):
        return assigned_data(tx, obj, value)
    if isinstance(obj, UnspecializedNNModuleVariable) and value.is_tensor() and _is_buffer_of(obj.value, name):
        return traced_call(tx, _assigned_buffer, [obj, name, value], {})
    return _assign(self, tx, obj, name, value)


def _is_buffer_of(module: Any, name: Any) -> bool:
    """Whether it only takes the place of a buffer, which Dynamo does not trace of an `nn.Buffer`."""
    setter: Any = type(module).__setattr__
    if setter is not torch.nn.Module.__setattr__ or not name.is_python_constant():
        return False
    return name.as_python_constant() in module._buffers


def _assigned_buffer(module: torch.nn.Module, name: str, value: torch.Tensor) -> None:
    module._buffers[name] = value


def _is(variable: Any, constant: object) -> bool:
    return bool(variable.is_python_constant()) and variable.as_python_constant() == constant


def _checked(self: OutputGraph, returned: list[Any], tx: Any) -> None:
    """Break the graph only where such a tensor itself is returned.

    Dynamo breaks it for all that is made of it: what is captured may then require gradients by parameters alone. But
    gradients of parameters are the same, and the tensor's own `.grad` nobody can ask for who does not have it.
    """
    made = {v.as_proxy().node for v in self.leaf_var_creation_order if isinstance(v, TensorVariable) and not v.source}
    if any(isinstance(v, TensorVariable) and v.as_proxy().node in made for v in returned):
        _check(self, returned, tx)


def _let(self: OutputGraph, returned: list[Any], tx: Any) -> None:
    """Let what a model returns have gone into `torch.autograd.grad`, such as the energy whose forces it takes.

    Who goes backward from it, in eager, is told that its graph is gone. What is captured has its own, which is not.
    """


def derives_twice(module: fx.GraphModule) -> bool:
    """Whether Dynamo's graph has derivatives that are to be derived again."""
    return any(_bound(node).arguments.get("create_graph") for node in _derivatives(module))


def keep_graphs(module: fx.GraphModule) -> None:
    """Let the derivatives in Dynamo's graph leave what they go through, for the backward that is captured behind it.

    Raises:
        NotImplementedError: there may be a derivative of a derivative through an `autograd.Function`. AOTAutograd loses
            it: what its forward saves has no gradients there.
    """
    if derives_twice(module) and _has_functions(module):
        raise NotImplementedError("a derivative of a derivative, with an autograd.Function (or a hook) in the graph")
    found = _derivatives(module)
    for node in found:
        bound = _bound(node)
        bound.arguments["retain_graph"] = True
        node.args, node.kwargs = bound.args, bound.kwargs
    if found:
        module.recompile()


def _derivatives(module: fx.GraphModule) -> list[fx.Node]:
    return list(module.graph.find_nodes(op="call_function", target=torch.autograd.grad))


def _bound(node: fx.Node) -> inspect.BoundArguments:
    return _grad.bind(*node.args, **node.kwargs)


def _has_functions(module: fx.GraphModule) -> bool:
    graphs = [inner.graph for inner in module.modules() if isinstance(inner, fx.GraphModule)]
    return any(getattr(node.target, "__name__", "") == _FUNCTION for graph in graphs for node in graph.nodes)


_FUNCTION = "autograd_function_apply"
"""What an `autograd.Function` is in Dynamo's graphs."""

_grad = inspect.signature(torch.autograd.grad)


@contextmanager
def leaves_in_graphs() -> Iterator[None]:
    """Within, what is compiled may have leaves of autograd's graph in its midst, and derivatives by them."""
    assigned = mock.patch.object(SetAttrBuiltinVariable, "_call_setattr", _assigned)
    checked = mock.patch.object(OutputGraph, "_check_requires_grad_intermediate_outputs", _checked)
    with assigned, checked, mock.patch.object(OutputGraph, "_validate_outputs_safe_for_autograd_nodes", _let):
        yield
