"""Backward hooks of modules as ops of the graph, where Dynamo would leave the whole call to eager.

A hooked module's outputs, and its inputs, pass through functions that do nothing. The backward of the first is an op
that is given the outputs' gradients and calls the pre-hooks, that of the second is given the inputs', too, and calls
the hooks.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any
from unittest import mock

import torch
from torch import Tensor, fx, nn
from torch._dynamo.variables import ConstantVariable
from torch._dynamo.variables.base import VariableTracker
from torch._dynamo.variables.torch import TorchInGraphFunctionVariable
from torch.utils.hooks import BackwardHook

from torchplace.compiler.acts import acting
from torchplace.compiler.traced import traced_call

_serial = count()
_modules: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()
_numbers: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
_CALLS = "torchplace_hooked_calls"
"""What Dynamo's output of a frame has the numbers of calls of hooked modules in."""


def _number(module: nn.Module) -> int:
    """What a module is called by in graphs. Ranks that run the same script give the same."""
    if module not in _numbers:
        _numbers[module] = next(_serial)
        _modules[_numbers[module]] = module
    return _numbers[module]


def hooked_modules() -> AbstractContextManager[Any]:
    """Within, Dynamo traces modules with backward hooks as others."""
    return mock.patch.dict(TorchInGraphFunctionVariable._get_handlers(), {BackwardHook: _traced})


def _traced(_: Any, tx: Any, module: Any, *__: Any) -> Any:
    """What Dynamo has in place of the hook that a module puts around its call."""
    return _Hooked(_number(module.value), next(vars(tx.output).setdefault(_CALLS, count())))


class _Hooked(VariableTracker):
    """One call of a hooked module, for Dynamo."""

    def __init__(self, module: int, call: int, **options: Any) -> None:
        super().__init__(**options)
        self.numbers = [ConstantVariable.create(number) for number in (module, call)]
        self.inputs = ConstantVariable.create(-1)

    def python_type(self) -> type[Any]:
        """What this stands for."""
        return BackwardHook

    def call_method(self, tx: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Trace `setup_input_hook`, or `setup_output_hook`, of what a module gets, or gives."""
        if name == "setup_output_hook":
            return traced_call(tx, _through_outputs, [*args, *self.numbers, self.inputs], {})
        passed, self.inputs = traced_call(tx, _through_inputs, [*args, *self.numbers], {}).unpack_var_sequence(tx)
        return passed


def _through_inputs(args: tuple[Any, ...], module: int, call: int) -> tuple[tuple[Any, ...], int]:
    """Arguments, passed through; how many there are, if none of them gets a gradient, else -1."""
    places = _with_gradients(args)
    return _through(_Inputs, args, places, (module, call)), -1 if places else len(args)


def _through_outputs(result: Any, module: int, call: int, inputs: int) -> Any:
    results = result if isinstance(result, tuple) else (result,)
    passed = _through(_Outputs, results, _with_gradients(results), (module, call, inputs))
    return passed if isinstance(result, tuple) else passed[0]


def _with_gradients(values: tuple[Any, ...]) -> list[int]:
    if not torch.is_grad_enabled():
        return []
    return [i for i, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]


def _through(function: Any, values: tuple[Any, ...], places: list[int], numbers: tuple[int, ...]) -> tuple[Any, ...]:
    """Values, those at some places passed through a function."""
    if not places:
        return values
    passed = function.apply((*numbers, len(values), places), *[values[i] for i in places])
    new = list(values)
    for i, value in zip(places, passed, strict=True):
        new[i] = value
    return tuple(new) if type(values) is tuple else type(values)(*new)


class _Passed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, numbers: tuple[Any, ...], *values: Tensor) -> tuple[Tensor, ...]:
        ctx.numbers = numbers
        return tuple(value.view_as(value) for value in values)


class _Outputs(_Passed):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, *hooked_outputs(list(gradients), *ctx.numbers)


class _Inputs(_Passed):
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, *hooked_inputs(list(gradients), *ctx.numbers, [], 0, [])


@torch.library.custom_op("torchplace::hooked_outputs", mutates_args=())
def hooked_outputs(
    gradients: Sequence[Tensor], module: int, call: int, inputs: int, size: int, places: Sequence[int]
) -> list[Tensor]:
    """Call the pre-hooks, and the hooks, too, if no input gets a gradient.

    Args:
        gradients: of the outputs that have one.
        module: its number.
        call: number of the call.
        inputs: how many inputs the module has, if none of them gets a gradient; else -1.
        size: how many outputs there are.
        places: of those with gradients, among all outputs.

    Returns:
        The gradients, as the hooks leave them.
    """
    given = [gradient.clone() for gradient in gradients]
    hooked = _modules.get(module)
    if hooked is None or not acting():
        return given
    packed = _packed(given, places, size)
    for hook in hooked._get_backward_pre_hooks():  # type: ignore[no-untyped-call]
        packed = _checked(hook(hooked, packed), packed, hook)
    if inputs >= 0:
        for hook in hooked._get_backward_hooks()[0]:  # type: ignore[no-untyped-call]
            hook(hooked, (None,) * inputs, packed)
    return _unpacked(packed, places, given)


@torch.library.custom_op("torchplace::hooked_inputs", mutates_args=())
def hooked_inputs(
    gradients: Sequence[Tensor],
    module: int,
    call: int,
    size: int,
    places: Sequence[int],
    outputs: Sequence[Tensor],
    outputs_size: int,
    outputs_places: Sequence[int],
) -> list[Tensor]:
    """Call the hooks; not, if no gradient has come by the outputs.

    Args:
        gradients: of the inputs that have one.
        module: its number.
        call: number of the call.
        size: how many inputs there are.
        places: of those with gradients, among all inputs.
        outputs: the outputs' gradients (`link_hooks`).
        outputs_size: how many outputs there are.
        outputs_places: of those with gradients, among all outputs.

    Returns:
        The inputs' gradients, as the hooks leave them.
    """
    given = [gradient.clone() for gradient in gradients]
    hooked = _modules.get(module)
    if hooked is None or not outputs or not acting():
        return given
    packed, behind = _packed(given, places, size), _packed([o.clone() for o in outputs], outputs_places, outputs_size)
    for hook in hooked._get_backward_hooks()[0]:  # type: ignore[no-untyped-call]
        packed = _checked(hook(hooked, packed, behind), packed, hook)
    return _unpacked(packed, places, given)


@hooked_outputs.register_fake
@hooked_inputs.register_fake
def _(gradients: Sequence[Tensor], *_: Any) -> list[Tensor]:
    return [torch.empty_like(gradient) for gradient in gradients]


def _packed(tensors: Sequence[Tensor], places: Sequence[int], size: int) -> tuple[Tensor | None, ...]:
    packed: list[Tensor | None] = [None] * size
    for i, tensor in zip(places, tensors, strict=True):
        packed[i] = tensor
    return tuple(packed)


def _checked(returned: Any, packed: tuple[Any, ...], hook: Any) -> tuple[Any, ...]:
    """What a hook returned, or what it was given if it returned nothing."""
    if returned is None:
        return packed
    new = (returned,) if isinstance(returned, Tensor) else tuple(returned)
    if len(new) != len(packed):
        name = getattr(hook, "__qualname__", hook)
        raise RuntimeError(f"the backward hook {name} returned {len(new)} gradients; expected {len(packed)}")
    return new


def _unpacked(packed: tuple[Any, ...], places: Sequence[int], given: Sequence[Tensor]) -> list[Tensor]:
    """What hooks have left, in the tensors that they were given: those have the types that the graph expects."""
    for i, own in zip(places, given, strict=True):
        if packed[i] is None:
            own.zero_()
        elif packed[i] is not own:
            own.copy_(packed[i])
    return list(given)


def link_hooks(module: fx.GraphModule) -> None:
    """Let the ops that call hooks have the outputs' gradients, too, which autograd does not bring there."""
    nodes = list(module.graph.nodes)
    outputs = {node.args[2]: node for node in nodes if node.target is _OUTPUTS}
    for node in (node for node in nodes if node.target is _INPUTS and node.args[2] in outputs):
        behind = outputs[node.args[2]]
        size, places = behind.args[4:6]
        node.args = (*node.args[:5], [_item(module.graph, behind, i) for i in range(len(places))], size, places)


def _item(graph: fx.Graph, node: fx.Node, index: int) -> fx.Node:
    """What takes one of the tensors that a node gives."""
    for user in node.users:
        if user.target is operator.getitem and user.args[1] == index:
            return user
    with graph.inserting_after(node):
        item = graph.call_function(operator.getitem, (node, index))
    item.meta = {**node.meta, "val": node.meta["val"][index]}
    return item


_OUTPUTS = torch.ops.torchplace.hooked_outputs.default
_INPUTS = torch.ops.torchplace.hooked_inputs.default
