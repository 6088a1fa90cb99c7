"""Joint capture: a model and its loss, forward and backward, as the one graph of a training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from torchplace.compiler import dynamo
from torchplace.compiler.capture import Captured, Capturer, Handler, start_capture
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.graph import Graph, Op, Value, replaced
from torchplace.compiler.misspeculation import speculating
from torchplace.compiler.passes.effects import drop_tokens
from torchplace.compiler.passes.fused_backwards import split_fused_backwards
from torchplace.compiler.passes.loss_alone import only_the_loss
from torchplace.compiler.passes.partial_gradients import separate_partial_gradients
from torchplace.compiler.passes.snapshots import snapshot_state
from torchplace.errors import CaptureError

Loss = Callable[[Any, Any], torch.Tensor]
"""Takes what a model returns, and the target."""
_NO_LOSS = "the model's output has no `loss`"
Runner = Callable[[Captured, dict[str, Any]], Sequence[Any]]
"""Runs a step: is given what was captured, and the inputs of its first micro-batch, by their names in the graph.

What it returns stands for the graph's outputs: what the function returns, and what it leaves in attributes.
"""


def step_function(model: Callable[..., Any], loss_fn: Loss | None, *, returned: bool) -> Callable[..., Any]:
    """What is captured: a function of (positional arguments, keyword arguments, target or none).

    It returns (loss, what the model returned): the loss is None where gradients are off and there is no `loss_fn`, and
    of the model's outputs there are none unless they are `returned`.

    Args:
        model: a module or a function.
        loss_fn: of (output, target), or of the output alone where no target is given; None for a model whose output has
            a `loss`.
        returned: outputs are wanted, too.
    """
    is_module = isinstance(model, nn.Module)

    def step(args: Sequence[Any], kwargs: Mapping[str, Any], target: Sequence[Any]) -> tuple[Any, Any]:
        if is_module:  # called from here, so that Dynamo sees the paths of its parts from `model` on
            held = _buffers(model)
            output = model._call_impl(*args, **kwargs)  # type: ignore[attr-defined]
            _keep(held)
        else:
            output = model(*args, **kwargs)
        if loss_fn is not None:
            loss = loss_fn(output, *target)
        elif torch.is_grad_enabled():
            loss = own_loss(output)
            if loss is None:
                raise ValueError(f"{_NO_LOSS}; pass loss_fn=, or labels for the model to make one of")
        else:
            loss = None
        if loss is not None:
            _require_number(loss)
        if not returned:
            return loss, None
        if torch.is_grad_enabled():
            output = pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, output)
        return loss, output

    return dynamo.named_apart(step)


def _buffers(model: Any) -> list[tuple[nn.Module, str, torch.Tensor]]:
    """Module, name and tensor of every buffer."""
    return [(m, name, b) for m in model.modules() for name, b in m._buffers.items() if b is not None]


def _keep(held: Sequence[tuple[nn.Module, str, torch.Tensor]]) -> None:
    """Write what has taken a buffer's place into the buffer itself: there the next micro-batch reads it."""
    for module, name, buffer in held:
        new = module._buffers[name]
        if new is buffer:
            continue
        if new is None or new.shape != buffer.shape or new.dtype != buffer.dtype:
            raise ValueError(f"buffer {name!r} of {type(module).__name__} is replaced by something of another type")
        with torch.no_grad():
            buffer.copy_(new)
        module._buffers[name] = buffer


def _require_number(loss: Any) -> None:
    """Check that a loss is a tensor of one number."""
    if not isinstance(loss, torch.Tensor):
        raise ValueError(f"the loss is a {type(loss).__name__}; expected a tensor of a single number")
    if loss.dim():
        raise ValueError(f"the loss has shape {tuple(loss.shape)}; expected a single number")


def own_loss(output: Any) -> Any:
    """The loss that a model's output has itself; None where it has none."""
    return output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)


def capture_step(
    model: Callable[..., Any],
    call: tuple[Sequence[Any], Mapping[str, Any], Sequence[Any]],
    loss_fn: Loss | None,
    *,
    training: bool,
    dynamic: bool | None = None,
) -> Captured:
    """Capture a micro-batch of a step without running it (`dry.capture_dry`).

    A model without a loss is captured, too, so that it can be planned: then what comes before the backward of its
    outputs is left out.

    Args:
        model: a module or a function.
        call: positional arguments, keyword arguments, and the target or nothing.
        loss_fn: as `step_function` has it.
        training: with the backward.
        dynamic: dynamic shapes, as `torch.compile` takes it.

    Raises:
        CaptureError: it cannot be captured as one graph.
    """
    function = step_function(model, loss_fn, returned=not training and loss_fn is None)
    try:
        found = capture_dry(function, call, {}, training=training, fullgraph=True, dynamic=dynamic, model=model)
    except CaptureError as error:
        if loss_fn is not None or _NO_LOSS not in str(error):
            raise
        args, kwargs, _ = call
        found = capture_dry(model, args, kwargs, training=training, fullgraph=True, dynamic=dynamic)
    return joint(found[0])


class StepCapturer(Capturer):
    """A Dynamo backend that captures steps; at a call of what it gives Dynamo, `run` runs the step."""

    def __init__(
        self,
        handler: Handler,
        run: Runner,
        name: str,
        names: Callable[[], Mapping[int, str]],
        arguments: Sequence[str] = (),
    ) -> None:
        """As `Capturer`, with what runs a step."""
        super().__init__(handler, name, names, arguments=arguments)
        self.run = run

    def __call__(self, module: fx.GraphModule, inputs: Sequence[Any], **_: Any) -> Callable[..., Any]:
        """Capture one graph of Dynamo's and return what runs it."""
        capture = start_capture(self, module, inputs)
        found: list[Captured] = []

        def keep(captured: Captured) -> Sequence[dynamo.Runner]:
            if capture.written:
                raise CaptureError(
                    f"{capture.written[0]!r} is written to in place, and gradients would have to go through what is "
                    "written; detach that, or let the model write to a copy"
                )
            found.append(joint(captured))
            self.handler(found[0])
            return [_never_run] * len(captured.parts)

        capture.handler = keep
        capture.compile()
        capture.forget_inputs()
        names = {index: called.name for index, called in capture.called.items()}
        captured = found[0]
        captured.examples.clear()

        count = capture.output_count

        def run(*args: Any) -> Sequence[Any]:
            return self.run(captured, {name: args[index] for index, name in names.items()})[:count]

        return speculating(run, capture.mutated)


def joint(captured: Captured) -> Captured:
    """What was captured, as one graph that runs whole, with state ready to be written by one micro-batch after another.

    Checkpointing is honoured: what the backward part computes anew, the graph does.
    """
    graph = stitched(captured) if _recomputes(captured) else captured.graph
    drop_tokens(graph)
    only_the_loss(graph)
    snapshot_state(graph)
    split_fused_backwards(graph)
    separate_partial_gradients(graph)
    return replace(captured, graph=graph, parts=(graph,), joint=True)


def _recomputes(captured: Captured) -> bool:
    """Whether the backward part has ops that the whole graph does not have, or that the forward part has, too."""
    if len(captured.parts) < 2:
        return False
    forward, backward = ({op.name for op in part.ops} for part in captured.parts)
    return bool(forward & backward) or not backward <= {op.name for op in captured.graph.ops}


def stitched(captured: Captured) -> Graph:
    """The parts of a captured graph as one: what the backward part computes anew keeps its own names.

    Ops have the names that they have in the whole graph, as far as they are there.
    """
    first, second = captured.parts
    known = _handed_on(first, second)
    inputs = [*first.inputs, *(v for v in second.inputs if v not in known)]
    taken, bases = {op.name for op in first.ops}, dict[str, str]()
    ops = [*first.ops, *(_renamed(op, taken, known, bases) for op in second.ops)]
    outputs = [o for o in first.outputs if o.kind != "saved"]
    outputs += [replace(o, value=known.get(o.value, o.value)) for o in second.outputs]
    whole = replace(captured.graph, inputs=inputs, ops=ops, outputs=outputs)
    whole.constants = {**second.constants, **first.constants}
    whole.subgraphs = {**second.subgraphs, **first.subgraphs}
    whole.check()
    return whole


def _handed_on(first: Graph, second: Graph) -> dict[Value, Value]:
    """Input of the backward part -> what it is in the forward part.

    They have the same name, but for states of random generators, with which dropout is computed anew: these come in
    the same order.
    """
    made, taken = first.values, {v.name for v in second.inputs}
    saved = (o.value for o in first.outputs if o.kind == "saved" and isinstance(o.value, Value))
    others = (v for v in saved if v.name not in taken)
    known = {}
    for value in second.inputs:
        if value.name in made:
            known[value] = made[value.name]
        elif value.kind == "saved":
            known[value] = next(others)
    return known


def _renamed(op: Op, taken: set[str], known: dict[Value, Value], bases: dict[str, str]) -> Op:
    """An op of the backward part, with what it takes from the forward part; under another name where it is taken."""
    name = op.name
    while name in taken:
        name += "_again"
    taken.add(name)
    args, kwargs = replaced(op.args, known), replaced(op.kwargs, known)
    phase = "backward" if op.phase == "forward" else op.phase  # computed anew: not before the backward needs it
    again = replace(op, name=name, args=args, kwargs=kwargs, phase=phase)
    again.__dict__.pop("inputs", None)
    outputs = []
    for value in op.outputs:
        base = None if value.base is None else bases.get(value.base, value.base)
        new = replace(value, name=name + value.name.removeprefix(op.name), producer=again, base=base)
        known[value], bases[value.name] = new, new.name
        outputs.append(new)
    again.outputs = tuple(outputs)
    return again


def _never_run(args: list[Any]) -> Sequence[Any]:
    raise CaptureError("a joint capture runs no part by itself")
