"""Recurrent layers as one op each: LSTM, GRU and plain ones.

AOTAutograd takes them apart step by step: a layer that reads 100 words came to some 5,000 ops, which took a minute to
capture and twenty times eager's time to run. Here a layer is an op, and its backward another. The backward runs the
layer again, with autograd, so that every backend's own kernels do the work; nothing of the steps is kept in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import compress
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch._decomp import decompositions
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import register_flop_formula

_KINDS = "lstm", "gru", "rnn_tanh", "rnn_relu"
_FUNCTIONS = {function: kind for kind in _KINDS for function in (getattr(torch, kind), getattr(torch._VF, kind))}
_BELOW = ("AutogradFunctionality", "AutogradOther", "AutogradNestedTensor", "ADInplaceOrView")
"""What is excluded where ops run below autograd."""


def keep_recurrent(module: fx.GraphModule) -> None:
    """Let the recurrent layers of Dynamo's graph be captured as one op each, in place.

    Left as they are: those that autocast has to look into.
    """
    graphs = [inner for inner in module.modules() if isinstance(inner, fx.GraphModule)]  # checkpoints have their own
    nodes = [node for inner in graphs for node in inner.graph.nodes if node.op == "call_function"]
    if any("autocast" in str(node.target) for node in nodes):
        return
    found = [node for node in nodes if node.target in _FUNCTIONS and len(node.args) == 9]
    for node in found:
        x, sizes, *rest = node.args  # of a packed sequence, which has no `batch_first`
        args = (x, None, sizes, *rest) if isinstance(node.args[3], bool) else (x, sizes, *rest, False)
        if _is_plain(n for n in node.all_input_nodes if n is not args[1]):
            node.args, node.target = (_FUNCTIONS[node.target], *args), recurrent
    for inner in graphs if found else ():
        inner.recompile()


def _is_plain(nodes: Iterable[fx.Node]) -> bool:
    """Whether all tensors that nodes make are of one dtype and on one kind of device, outside of autocast."""
    given = [n.meta.get("example_value") for n in nodes]
    tensors = [t for value in given for t in (value if isinstance(value, (tuple, list)) else [value])]
    sorts = {(t.dtype, t.device.type) for t in tensors if isinstance(t, Tensor)}
    return len(sorts) == 1 and not any(torch.is_autocast_enabled(device) for _, device in sorts)


_SELECT_LSTM = "select_one_layer_lstm_function"
"""What AOTAutograd asks how to take a layer of an LSTM apart."""
_HELPER = "_rnn_helper"
"""What goes through the layers and steps of what is taken apart."""
_helper: Any = getattr(decompositions, _HELPER)


def _first_step(x: Tensor, *args: Any) -> tuple[Tensor, list[Any]]:
    """The shapes, strides and needs of gradients that a recurrent layer's results have, from its first step alone."""
    batch_first, layer = args[-2:]
    if not isinstance(x, FakeTensor):
        return _helper(x, *args)  # type: ignore[no-any-return]
    if "batch_sizes" in getattr(layer, "keywords", {}):
        return _as_packed(x, *args)
    time = 1 if batch_first else 0
    one, ends = _helper(x.narrow(time, 0, 1), *args)
    steps = one.transpose(0, time).expand(x.shape[time], *(-1,) * (x.dim() - 1))
    return steps.clone(memory_format=torch.contiguous_format).transpose(0, time), ends


def _as_packed(x: Tensor, before: Sequence[Any], weights: Any, *args: Any) -> tuple[Tensor, list[Any]]:
    """The same of packed rows, whose number nobody knows: states have the shapes that they had before."""
    *_, bidirectional, _, _ = args
    states = [state if isinstance(state, tuple) else (state,) for state in before]
    needs = [t.sum() for t in (x, *pytree.tree_leaves(weights), *pytree.tree_leaves(states))]
    nothing = 0 * torch.stack(needs).sum()
    rows = x.new_zeros(x.shape[0], (1 + bidirectional) * states[0][0].shape[-1]) + nothing
    ends = [tuple(state + nothing for state in own) for own in states]
    return rows, [own if isinstance(state, tuple) else own[0] for state, own in zip(before, ends, strict=True)]


def steps_left_out() -> AbstractContextManager[Any]:
    """Within, Dynamo, which wants to know the shapes of what a recurrent layer gives, does not go through all steps."""
    return mock.patch.object(decompositions, _HELPER, _first_step)


@contextmanager
def step_by_step() -> Iterator[None]:
    """Within, what is not one op is taken apart as a whole.

    An LSTM, too: oneDNN's single op for it has a backward only where autograd itself runs its forward.
    """
    select = mock.patch.object(decompositions, _SELECT_LSTM, return_value=decompositions.one_layer_lstm)
    with select, mock.patch.object(decompositions, _HELPER, _helper):
        yield


def recurrent(
    kind: str,
    x: Tensor,
    sizes: Tensor | None,
    states: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """What `torch.lstm` and its like do, layer by layer.

    Args:
        kind: of layer.
        x: [steps, batch, width], or [batch, steps, width] with `batch_first`; of a packed sequence, [rows, width].
        sizes: of a packed sequence, how many rows each step has; else None.
        states: at the begin: hidden, and cell for an LSTM; each [layers x directions, batch, width].
        weights: of all layers.
        biases: whether these have any.
        layers: how many.
        dropout: between layers.
        train: whether there is any.
        bidirectional: two directions in each layer.
        batch_first: see `x`.

    Returns:
        The last layer's outputs, laid out as `x`, and the states at the end.
    """
    before = [states] if isinstance(states, Tensor) else list(states)
    each, directions = len(weights) // layers, 1 + bidirectional
    behind: list[Sequence[Tensor]] = []
    for i in range(layers):
        if i and dropout and train:
            x = F.dropout(x, dropout)
        own = [state[i * directions : (i + 1) * directions] for state in before]
        x, hidden, cell = recurrent_layer(
            kind, x, sizes, own, list(weights[i * each : (i + 1) * each]), biases, bidirectional, batch_first
        )
        behind.append((hidden, cell)[: len(before)])
    return x, *(torch.cat(ends) if layers > 1 else ends[0] for ends in zip(*behind, strict=True))


@torch.library.custom_op("torchplace::recurrent_layer", mutates_args=())
def recurrent_layer(
    kind: str,
    x: Tensor,
    sizes: Tensor | None,
    states: list[Tensor],
    weights: list[Tensor],
    biases: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer: its outputs, hidden state and cell state (empty but for an LSTM). Cost: as that of torch's own."""
    results = _run(kind, x, sizes, states, weights, (biases, 1, 0.0, False, bidirectional, batch_first))
    cell = results[2] if len(results) == 3 else x.new_empty(0)
    return results[0].contiguous(), results[1].contiguous(), cell.contiguous()


@recurrent_layer.register_fake
def _(
    _kind: str, x: Tensor, _sizes: Any, states: list[Tensor], _weights: Any, _biases: bool, bidirectional: bool, _: bool
) -> tuple[Tensor, ...]:
    made = x.new_empty(*x.shape[:-1], (1 + bidirectional) * states[0].shape[-1])
    cell = states[1].new_empty(states[1].shape) if len(states) > 1 else x.new_empty(0)
    return made, states[0].new_empty(states[0].shape), cell


@torch.library.custom_op("torchplace::recurrent_layer_backward", mutates_args=())
def recurrent_layer_backward(
    kind: str,
    tangents: list[Tensor],
    x: Tensor,
    sizes: Tensor | None,
    states: list[Tensor],
    weights: list[Tensor],
    biases: bool,
    bidirectional: bool,
    batch_first: bool,
    wanted: list[bool],
) -> list[Tensor]:
    """Gradients of those of x, states and weights that are wanted. Cost: a forward and a backward of torch's own."""
    given = [x, *states, *weights]
    with _autograd():
        leaves = [t.detach().requires_grad_(want) for t, want in zip(given, wanted, strict=True)]
        own, parameters = leaves[1 : 1 + len(states)], leaves[1 + len(states) :]
        results = _run(kind, leaves[0], sizes, own, parameters, (biases, 1, 0.0, True, bidirectional, batch_first))
        asked = list(compress(leaves, wanted))
        found = torch.autograd.grad(results, asked, tangents[: len(results)], allow_unused=True)
    pairs = zip(found, asked, strict=True)
    return [torch.zeros_like(leaf) if g is None else g.contiguous() for g, leaf in pairs]


@recurrent_layer_backward.register_fake
def _(
    _kind: str, _tangents: Any, x: Tensor, _sizes: Any, states: list[Tensor], weights: list[Tensor], *flags: Any
) -> list[Tensor]:
    *_, wanted = flags
    return [t.new_empty(t.shape) for t in compress([x, *states, *weights], wanted)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.kind, x, sizes, states, weights, *ctx.flags = inputs
    ctx.states = len(states)
    ctx.wanted = [t.requires_grad for t in (x, *states, *weights)]
    ctx.save_for_backward(x, sizes, *states, *weights)


def _backward(ctx: Any, *tangents: Tensor) -> tuple[Any, ...]:
    x, sizes, *rest = ctx.saved_tensors
    states, weights = rest[: ctx.states], rest[ctx.states :]
    found = iter(recurrent_layer_backward(ctx.kind, list(tangents), x, sizes, states, weights, *ctx.flags, ctx.wanted))
    first, *others = [next(found) if want else None for want in ctx.wanted]
    return None, first, None, others[: ctx.states], others[ctx.states :], None, None, None


recurrent_layer.register_autograd(_backward, setup_context=_setup)


def _run(
    kind: str,
    x: Tensor,
    sizes: Tensor | None,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    flags: tuple[Any, ...],
) -> tuple[Tensor, ...]:
    held: Any = states[0] if len(states) == 1 else tuple(states)
    given = (x, held, list(weights), *flags) if sizes is None else (x, sizes.cpu(), held, list(weights), *flags[:-1])
    results: tuple[Tensor, ...] = getattr(torch._VF, kind)(*given)
    return results


@contextmanager
def _autograd() -> Iterator[None]:
    """Within, autograd records, also where ops run below it."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for name in _BELOW:
        excluded = excluded.remove(getattr(torch._C.DispatchKey, name))
    included = torch._C._dispatch_tls_local_include_set()
    with torch._C._ForceDispatchKeyGuard(included, excluded), torch.enable_grad():
        yield


def _products(x: Any, weights: Any) -> Any:
    """FLOPs of a layer, symbolic where sizes are: each weight of a product meets every row of every step. Of shapes."""
    return 2 * math.prod(x[:-1]) * sum(w[0] * w[1] for w in weights if len(w) == 2)


@register_flop_formula(torch.ops.torchplace.recurrent_layer)
def _flops_forward(_kind: str, x: Any, _sizes: Any, _states: Any, weights: Any, *_: Any, **__: Any) -> Any:
    return _products(x, weights)


@register_flop_formula(torch.ops.torchplace.recurrent_layer_backward)
def _flops_backward(
    _kind: str, _tangents: Any, x: Any, _sizes: Any, _states: Any, weights: Any, *_: Any, **__: Any
) -> Any:
    return 3 * _products(x, weights)
