"""TorchDynamo and AOTAutograd, wrapped: the one module that calls their private parts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar
from unittest import mock

import torch
from torch import fx
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.eval_frame import skip_code
from torch._functorch._aot_autograd import collect_metadata_analysis, graph_compile
from torch._functorch._aot_autograd.functional_utils import from_fun
from torch._functorch.partitioners import default_partition
from torch.fx.experimental.symbolic_shapes import _ignore_fresh_unbacked_symbols_tls_context
from torch.utils._python_dispatch import _disable_current_modes

from torchplace.compiler.assignments import derives_twice, keep_graphs
from torchplace.compiler.hidden_writes import hide_writes
from torchplace.compiler.recurrent import keep_recurrent, step_by_step

_serial = count()
_PLACED = re.compile(r"(\.forward)?\.torchplace_module\b")
"""What a source has between a placed module's own path and that of its parts."""

_F = TypeVar("_F", bound=Callable[..., Any])

Runner = Callable[[list[Any]], Sequence[Any]]
"""Runs a part of a captured graph: takes its inputs in a list that it may empty, returns its outputs."""

_MARKS = ("_dynamo_", "_specialize_on")
"""What the attributes begin with in which Dynamo keeps such marks."""

_DONATED = "collect_bw_donated_buffer_idxs"
"""What AOTAutograd asks which saved values the backward may write to."""


def keep_marks(source: torch.Tensor, target: torch.Tensor) -> None:
    """Let dims that the user has marked (`torch._dynamo.mark_dynamic`...) be marked of another tensor, too."""
    vars(target).update({name: mark for name, mark in vars(source).items() if name.startswith(_MARKS)})


def source_of(placeholder: fx.Node) -> str:
    """Where a graph input came from, as Python: `L['self']._modules['lm_head']._parameters['weight']`."""
    source = getattr(placeholder, "_dynamo_source", None)
    name = getattr(source, "name", "")
    return plain_source(str(name() if callable(name) else name)) or str(placeholder.target)


def plain_source(source: str) -> str:
    """A source as it would be if no module of it had been given to `place`."""
    return _PLACED.sub("", source)


def only_inlined(function: _F) -> _F:
    """Keep Dynamo from compiling calls of a function by themselves; in code that it traces, it follows them still.

    A function that does something else where it is traced, by `is_dynamo_compiling`, must not be traced alone.
    """
    skip_code(inspect.unwrap(function).__code__)
    return function


def input_index(placeholder: fx.Node) -> int | None:
    """Which input of Dynamo's graph an AOTAutograd placeholder is; None when it is none of them (a tangent...)."""
    index = getattr(placeholder.meta.get("desc"), "idx", None)
    is_plain = type(placeholder.meta.get("desc")).__name__ == "PlainAOTInput"
    return index if is_plain else None


def gradient_index(description: object) -> int | None:
    """For an output of a joint graph that is a gradient: the input of Dynamo's graph that it belongs to."""
    if type(description).__name__ != "GradAOTOutput":
        return None
    return getattr(getattr(description, "grad_of", None), "idx", None)


def written_index(description: object) -> int | None:
    """For an output that is what has been written to an input, in a way that autograd follows: which input that is."""
    if type(description).__name__ != "InputMutationAOTOutput":
        return None
    return getattr(getattr(description, "mutated_input", None), "idx", None)


def tangent_of(placeholder: fx.Node) -> object | None:
    """What describes the output of which a placeholder of a joint graph is the gradient; None where it is none."""
    return getattr(placeholder.meta.get("desc"), "output", None)


def is_backward_of_graph(node: object) -> bool:
    """Whether a node of autograd's graph is the backward of a graph that AOTAutograd has compiled."""
    return type(node).__name__ == "CompiledFunctionBackward"


def compile_with_aot(
    module: fx.GraphModule,
    inputs: Sequence[Any],
    *,
    partition: Callable[[fx.GraphModule, Sequence[Any], int], tuple[fx.GraphModule, fx.GraphModule]],
    forward: Callable[[fx.GraphModule], Runner],
    backward: Callable[[fx.GraphModule], Runner],
    inference: Callable[[fx.GraphModule], Runner],
) -> Callable[..., Any]:
    """Run AOTAutograd on what Dynamo captured.

    Args:
        module: Dynamo's graph.
        inputs: its example inputs.
        partition: is given the joint graph, its inputs and the number of forward outputs; returns the two parts.
        forward: makes the runner of the forward part.
        backward: makes the runner of the backward part.
        inference: makes the runner of a graph that needs no backward.

    Returns:
        What Dynamo calls in place of its graph; ordinary autograd works through it.
    """

    def split(joint: fx.GraphModule, joint_inputs: Any, *, num_fwd_outputs: int, **_: Any) -> Any:
        return partition(joint, joint_inputs, num_fwd_outputs)

    def boxed(make: Callable[[fx.GraphModule], Runner]) -> Callable[[fx.GraphModule, Any], Runner]:
        def compiler(part: fx.GraphModule, _: Any) -> Runner:
            runner = make(part)
            runner._boxed_call = True  # type: ignore[attr-defined]  # AOTAutograd's word for "may empty the list"
            return runner

        return compiler

    if not derives_twice(module):  # the ops of recurrent layers have one derivative
        keep_recurrent(module)
    keep_graphs(module)
    hide_writes(module)
    backend = aot_autograd(
        fw_compiler=boxed(forward),
        bw_compiler=boxed(backward),
        inference_compiler=boxed(inference),
        partition_fn=split,
        keep_inference_input_mutations=True,
    )
    # Donated buffers would make `retain_graph=True` an error.
    undonated: Any = mock.patch.object(graph_compile, _DONATED, return_value=[])
    with undonated, step_by_step(), mock.patch.object(collect_metadata_analysis, "from_fun", _plain):
        return backend(module, inputs)


def _plain(value: Any) -> Any:
    """What a result is outside AOTAutograd's trial run. A view of a size that hangs on values is made again for that.

    The sizes of this one are of no graph: AOTAutograd would look for them in the next.
    """
    with _ignore_fresh_unbacked_symbols_tls_context():
        return from_fun(value)


def split_joint(joint: fx.GraphModule, inputs: Sequence[Any], forward_outputs: int) -> Any:
    """Split a joint graph as eager would: forward keeps what backward needs; checkpointing marks are honoured."""
    return default_partition(joint, inputs, num_fwd_outputs=forward_outputs)


@contextmanager
def below_autograd() -> Iterator[None]:
    """Within, ops skip autograd, the bookkeeping of views and autocast: the graph has all of it worked out already."""
    with torch._C._AutoDispatchBelowAutograd(), torch._C._DisableAutocast():
        yield


def direct_call(target: Callable[..., Any]) -> Callable[..., Any]:
    """What an operator's `__call__` forwards to: saves a Python frame for every op that runs."""
    return getattr(target, "_op", target) if isinstance(target, torch._ops.OpOverload) else target


def dispatch_modes_active() -> bool:
    """Whether a dispatch mode (fake tensors, a profiler of ops...) watches this thread: its ops must stay in it."""
    return bool(torch._C._len_torch_dispatch_stack())


@contextmanager
def outside_modes() -> Iterator[None]:
    """Within, tensors are real, in the midst of a capture too, whose fake tensors stand behind dispatch modes.

    A capture also lets every op go through dispatch tables in Python, which takes several times as long as a small op.
    """
    with _disable_current_modes(), torch.no_grad(), torch._C._DisablePythonDispatcher():
        yield


def break_of(module: fx.GraphModule) -> str:
    """Why Dynamo's graph ends before the call does, and where in the user's code; "" where it does not."""
    reason = getattr(module, "compile_subgraph_reason", None)
    if reason is None or not reason.graph_break:
        return ""
    said = next((line.strip() for line in str(reason.reason).splitlines() if line.strip()), "unknown")
    where = next((f"{frame.filename}:{frame.lineno}" for frame in reversed(reason.user_stack)), "")
    return f"{where}: {said}" if where else said


def name_of(model: Any) -> str:
    """What a model is called: a module by its class, a function by its own name."""
    return type(model).__name__ if isinstance(model, torch.nn.Module) else getattr(model, "__name__", "function")


def argument_names(module: Any) -> tuple[str, ...]:
    """Names of the positional arguments that a module's `forward` takes; of what is no module, none."""
    if not isinstance(module, torch.nn.Module):
        return ()
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a forward that is no Python function
        return ()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def call_of(module: torch.nn.Module) -> Callable[..., Any]:
    """A module's own call, hooks included, in a frame that Dynamo captures.

    `nn.Module.compile()` hands Dynamo the method itself, which lies in a file that Dynamo skips: then only frames of
    user code below it are captured, and a `Sequential` or a single layer not at all.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]

    return named_apart(call)


def named_apart(function: Any) -> Callable[..., Any]:
    """Give a function's code a name of its own.

    Dynamo remembers by a code's name which sizes have changed, and makes those dynamic: each module needs its own.
    """
    name = f"call_{next(_serial)}"
    function.__code__ = function.__code__.replace(co_name=name, co_qualname=name)
    return function  # type: ignore[no-any-return]
