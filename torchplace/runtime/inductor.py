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

from torchplace.compiler.graph import Graph, Op, Subgraph
from torchplace.compiler.instructions import Run
from torchplace.compiler.types import TensorType, Type, torch_dtype
from torchplace.runtime.kernels import Kernel, make_kernel
from torchplace.runtime.transport import laid_out

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
            return _checked(_compile(graph, run, device, eager), graph, run)
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
    return isinstance(kind, TensorType) and kind.is_static


def _compile(graph: Graph, run: Run, device: torch.device, eager: Kernel) -> Any:
    """What Inductor makes of the kernel that runs op by op."""
    values, mode = graph.values, FakeTensorMode()
    with mode, torch.no_grad():
        given = [_empty(values[name].type, device) for name in run.inputs]
        module = make_fx(lambda *args: eager(list(args), 0), decomposition_table=select_decomp_table())(*given)
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
    return torch.empty_strided(kind.sizes, kind.strides, dtype=torch_dtype(kind.dtype), device=device)


def _checked(compiled: Any, graph: Graph, run: Run) -> Kernel:
    """The compiled segment, whose results have the strides that were captured."""
    kinds = [graph.values[name].type for name in run.outputs]
    strides = [kind.strides for kind in kinds if isinstance(kind, TensorType)]

    def segment(args: list[Any], seed: int) -> Sequence[Any]:
        return [laid_out(made, wanted) for made, wanted in zip(compiled(args), strides, strict=True)]

    return segment
