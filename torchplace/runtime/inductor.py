"""Segments compiled by TorchInductor, for `codegen="inductor"`; the one module that calls its private parts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._guards import TracingContext, tracing
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.decomposition import select_decomp_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from torchplace.compiler.graph import Callee, Graph, Here, Op, Subgraph, Value
from torchplace.compiler.instructions import Run
from torchplace.compiler.targets import resolve_target
from torchplace.compiler.types import Symbol, TensorType, Type, torch_dtype
from torchplace.runtime.kernels import Kernel, make_kernel

_log = logging.getLogger(__name__)


def make_compiled(
    graph: Graph, ops: Sequence[Op], run: Run, device: torch.device, where: str, keys: Mapping[str, str]
) -> Kernel:
    """Compile the ops of a segment with Inductor; arguments are those of `kernels.make_kernel`.

    What it cannot compile here runs op by op, as with `codegen="eager"`, and is logged: ops that draw random numbers
    (which must be those of any placement), ops with graphs of their own, and sizes that are not known.
    """
    eager = make_kernel(graph, ops, run, device, where, keys)
    reason = _unsuited(graph, ops, run)
    if not reason:
        try:
            return _checked(_compile(graph, ops, run, device), graph, run)
        except Exception as error:  # a compiler's failure must not be a user's
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    _log.info("segment %s of %r on %s runs op by op: %s", run.segment, graph.name, where, reason)
    return eager


def _unsuited(graph: Graph, ops: Sequence[Op], run: Run) -> str:
    values = graph.values
    if any(op.random for op in ops):
        return "it draws random numbers"
    if any(isinstance(a, Subgraph) for op in ops for a in (*op.args, *op.kwargs.values())):
        return "an op has a graph of its own"
    if any(op.mutates for op in ops):
        return "it writes state"
    if not all(_is_known(values[name].type) for name in (*run.inputs, *run.outputs)):
        return "sizes are not known, or a value is no tensor"
    return "" if len(ops) > 1 else "it is a single op"


def _is_known(kind: Type) -> bool:
    return isinstance(kind, TensorType) and not any(isinstance(dim, Symbol) for dim in kind.shape)


def _compile(graph: Graph, ops: Sequence[Op], run: Run, device: torch.device) -> Any:
    values = graph.values
    mode = FakeTensorMode()
    with mode:
        given = [_empty(values[name].type, device) for name in run.inputs]

    def segment(*args: Any) -> list[Any]:
        env: dict[Value, Any] = {values[name]: arg for name, arg in zip(run.inputs, args, strict=True)}
        for op in ops:
            made = resolve_target(op.target)(*_read(op.args, env, device), **_read(op.kwargs, env, device))
            several = len(op.outputs) > 1 or (bool(op.outputs) and op.outputs[0].name != op.name)
            env.update(zip(op.outputs, made if several else (made,), strict=True) if op.outputs else ())
        return [env[values[name]] for name in run.outputs]

    with mode, torch.no_grad():
        module = make_fx(segment, decomposition_table=select_decomp_table())(*given)
    _keep_strides(module)
    with tracing(TracingContext(mode)), torch.no_grad():
        return compile_fx_inner(module, given)


def _keep_strides(module: fx.GraphModule) -> None:
    """Other segments were captured for the strides that results have: Inductor must not choose others."""
    end = module.graph.output_node()
    end.meta["user_visible_output_idxs"] = list(range(len(end.args[0])))  # type: ignore[arg-type]
    end.meta["original_output_strides"] = [
        node.meta["val"].stride() if isinstance(node, fx.Node) else None
        for node in end.args[0]  # type: ignore[union-attr]
    ]


def _empty(kind: Type, device: torch.device) -> torch.Tensor:
    assert isinstance(kind, TensorType)
    if kind.stride is None:
        return torch.empty(kind.sizes, dtype=torch_dtype(kind.dtype), device=device)
    return torch.empty_strided(kind.sizes, kind.stride, dtype=torch_dtype(kind.dtype), device=device)


def _read(argument: Any, env: Mapping[Value, Any], device: torch.device) -> Any:
    """An argument of an op, with what stands for it in a call."""
    if isinstance(argument, Value):
        return env[argument]
    if isinstance(argument, (list, tuple)):
        return type(argument)(_read(a, env, device) for a in argument)
    if isinstance(argument, dict):
        return {key: _read(a, env, device) for key, a in argument.items()}
    if isinstance(argument, Here):
        return device
    return resolve_target(argument.target) if isinstance(argument, Callee) else argument


def _checked(compiled: Any, graph: Graph, run: Run) -> Kernel:
    """The compiled segment, whose results have the strides that were captured."""
    values = graph.values
    strides = [torch.empty(()).stride() for _ in run.outputs]
    for i, name in enumerate(run.outputs):
        kind = values[name].type
        assert isinstance(kind, TensorType)
        strides[i] = torch.empty(kind.sizes, device="meta").stride() if kind.stride is None else kind.stride

    def segment(args: list[Any], seed: int) -> Sequence[Any]:
        made = compiled(args)
        return [_laid_out(t, wanted) for t, wanted in zip(made, strides, strict=True)]

    return segment


def _laid_out(tensor: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    if all(s == w or n == 1 for s, w, n in zip(tensor.stride(), strides, tensor.shape, strict=True)):
        return tensor
    there = torch.empty_strided(tensor.size(), tuple(strides), dtype=tensor.dtype, device=tensor.device)
    return there.copy_(tensor)
