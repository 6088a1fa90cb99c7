"""Step: a call of a model that goes through its devices micro-batch by micro-batch, with loss and backward."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex

import torch
from torch import nn

from torchplace.compiler import dynamo
from torchplace.compiler.capture import Captured
from torchplace.compiler.compiled import compile_function, is_of_model
from torchplace.compiler.dry import require_sizes
from torchplace.compiler.graph import Value
from torchplace.compiler.homes import set_home
from torchplace.compiler.joint import Loss, StepCapturer, step_function
from torchplace.compiler.lifetimes import Instance
from torchplace.errors import CaptureError, ExecutionError, OptionError
from torchplace.placement.pipelining import AUTO, Pipelining
from torchplace.placement.timeline import Timeline
from torchplace.runtime.accelerator import own_device
from torchplace.runtime.apart import Apart
from torchplace.runtime.counting import numbers_of, warn_of_changed
from torchplace.runtime.executable import Executable
from torchplace.runtime.gradients import Gradients
from torchplace.runtime.microbatches import BatchDims, Split, Splitter, call_of, weighted
from torchplace.runtime.optimizing import Optimizing
from torchplace.runtime.row import Row, alike, joined
from torchplace.runtime.saving import save_whole
from torchplace.runtime.session import Placed, Session

Reduction = str | Callable[[Any], Any]
"""`mean`, `sum`, or a function that gives the weight of a micro-batch, of its target (of its keyword arguments, if it
has none)."""

_TRIES = 2
"""How often a step may fail to be one graph."""


class Step:
    """What `tp.compile(model, loss_fn=..., microbatches=...)` gives: `loss = step(*args, target=..., **kwargs)`.

    A step is captured at its first call, for the shapes of a micro-batch; it does what eager does that runs forward,
    loss and backward for one micro-batch after the other: gradients are added to `.grad`, buffers are written in order.
    Where a micro-batch is no single graph, they do run one after the other (`Apart`), with a warning.

    Attributes:
        model: what is trained.
        session: its plans and programs.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        session: Session,
        *,
        loss_fn: Loss | None = None,
        microbatches: int = 1,
        batch_dims: BatchDims = 0,
        reduction: Reduction | None = None,
        schedule: str = AUTO,
        dynamic: bool | None = None,
        fullgraph: bool = False,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Prepare; nothing is captured yet.

        Args:
            model: a module or a function of tensors.
            session: plans and runs what is captured.
            loss_fn: of (output, target), or of the output alone; None for a model whose output has a `loss`.
            microbatches: into which a step's inputs are split, at most.
            batch_dims: where the rows are.
            reduction: how losses of micro-batches make that of the batch; None for what `loss_fn` says, or the mean.
            schedule: in which order devices do what there is to do.
            dynamic: dynamic shapes, as `torch.compile` takes it.
            fullgraph: a step that is no single graph is an error.
            optimizer: does its step in each step that has gradients, on each device as soon as it has all of its own;
                then they are dropped.
        """
        self.optimizer = optimizer
        self.model, self.session, self.loss_fn, self.schedule = model, session, loss_fn, schedule
        self.reduction = reduction or getattr(loss_fn, "reduction", "mean")
        self.name = type(model).__name__ if isinstance(model, nn.Module) else getattr(model, "__name__", "function")
        self._arguments = dynamo.argument_names(model) if isinstance(model, nn.Module) else ()
        self.splitter = Splitter(microbatches, batch_dims, self._arguments)
        self._dynamic, self._fullgraph = dynamic, fullgraph
        self._compiled: dict[bool, Callable[..., Any]] = {}
        self._apart: Apart | None = None  # what runs it, once its capture has failed
        self._failures = 0
        self._placed: dict[tuple[Captured, int], Placed] = {}
        self._running = threading.local()  # its `row`, in the thread that runs it
        self._ran: list[Executable] = []
        if isinstance(model, nn.Module):
            session.model = weakref.ref(model)
            _call_home(model, own_device())

    def __repr__(self) -> str:
        return f"<Step of {self.name!r}: {self.splitter.microbatches} micro-batch(es), schedule {self.schedule!r}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be copied or pickled: it holds compiled code and parameters where they are placed; "
            "copy, or pickle, the model, and compile that"
        )

    def __call__(
        self, *args: Any, target: Any = None, return_outputs: bool = False, grad_scale: Any = 1.0, **kwargs: Any
    ) -> Any:
        """Run a step.

        Args:
            *args: of the model; with a `loss_fn` that takes a target, and no `target`, the last is that.
            target: for the loss; split as the inputs are.
            return_outputs: return what the model returned for the whole batch, too.
            grad_scale: gradients are multiplied by it, as by `GradScaler.scale`; a number or a tensor of one.
            **kwargs: of the model.

        Returns:
            The loss of the whole batch, detached; with `return_outputs`, (loss, outputs). Where there is no loss (no
            `loss_fn`, under `torch.no_grad`), the outputs.

        Raises:
            CaptureError: the step cannot be captured as one graph, and it has several ranks, or eager fails, too.
            ExecutionError: an op failed; names it. Parameters are as they were; gradients may be those of a part of the
                batch: drop them (`zero_grad`).
            InfeasibleError: nothing fits the devices.
            OptionError: inputs have no rows, or different numbers of them.
        """
        split = self.splitter.split(call_of(args, kwargs, target, self.loss_fn))
        weights = self._weights(split)
        inference = self.loss_fn is None and not torch.is_grad_enabled()
        scale = float(grad_scale)
        rows = [
            Row(split.calls[start:end], [w * scale for w in weights[start:end]], return_outputs or inference)
            for start, end in alike(split.rows)
        ]
        self._ran = []
        if self.optimizer is not None and torch.is_grad_enabled():
            rows[-1].optimizing = Optimizing(self.optimizer, self._owners)
        self._run(rows)
        self._hand_back(rows)
        if rows[-1].optimizing is not None:
            rows[-1].optimizing.finish(self.session.runtime)
        outputs = joined(rows, split, weights, self.splitter.output_dim) if return_outputs or inference else None
        if inference:
            return outputs
        with torch.no_grad():
            loss = weighted([piece for row in rows for piece in row.results[0]], weights)
        return (loss, outputs) if return_outputs else loss

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What of the model's state is in this process, by the model's own names: on a rank, what it owns."""
        held = self.model.state_dict() if isinstance(self.model, nn.Module) else {}
        return {name: t for name, t in held.items() if not (isinstance(t, torch.Tensor) and t.device.type == "meta")}

    def save(self, path: str | Path) -> None:
        """Write the whole model to a safetensors file, by its own names, whole or not at all.

        Every rank has to call it; rank 0 needs host memory for the whole model.

        Raises:
            OptionError: the model is no module.
            PlanError: the file cannot be written.
            RankError: another rank has failed.
        """
        if not isinstance(self.model, nn.Module):
            raise OptionError(f"{self!r} is of a function; expected a step of a module, which has parameters to save")
        save_whole(self.model, self.session, Path(path))

    @property
    def timeline(self) -> Timeline:
        """What ran in the last step, and when; on one of several ranks, what that rank did."""
        return Timeline.joined(executable.timeline for executable in self._ran)

    def _weights(self, split: Split) -> list[float]:
        """Of every micro-batch's loss in that of the batch."""
        if self.reduction == "sum":
            return [1.0] * len(split.rows)
        counts = [float(rows) for rows in split.rows]
        if callable(self.reduction):
            counts = [float(self.reduction(*(c.target or (c.kwargs,)))) for c in split.calls]
        total = sum(counts)
        return [count / total if total else 0.0 for count in counts]

    def _run(self, rows: Sequence[Row]) -> None:
        """Run them as one graph; if that is not to be, in parts.

        It is tried twice: models that make something in their first call are one graph from then on.
        """
        if self._failures < _TRIES:
            try:
                self._run_whole(rows[0])
            except CaptureError as error:
                self._failures += 1
                self._apart, left = self._begun_apart(rows[0], error), rows[1:]
            else:
                for row in rows[1:]:
                    self._run_whole(row)
                return
        else:
            left = rows
        for row in left:
            assert self._apart is not None
            self._apart.run(row)
        self._ran = [part for placed in self.session.placed for part in placed.parts]

    def _begun_apart(self, row: Row, error: CaptureError) -> Apart:
        """What runs a step that is no single graph in parts; it has run a row.

        Raises:
            CaptureError: it must be one graph, as on several ranks, which run one program; or capture did not fail for
                what the model does, or eager fails as well.
        """
        if self._fullgraph or not is_of_model(error) or not self.session.alone:
            raise error
        names, place = _weakly(self._names), _weakly(self.session.__call__)
        apart = self._apart or Apart(self.model, place, self.name, names, self._arguments, self.loss_fn, self._dynamic)
        try:
            apart.run(row)
        except Exception as wrong:
            raise error from wrong
        if self._apart is None:
            warnings.warn(
                f"the step of {self.name!r} is not pipelined, for it is no single graph: its micro-batches run one "
                f"after the other, and what of the model can be captured runs placed; {error}",
                stacklevel=4,
            )
        return apart

    def _run_whole(self, row: Row) -> None:
        self._running.row, first = row, row.calls[0]
        try:
            _, row.output = self._compiled_for(row.returned)(first.args, first.kwargs, first.target)
        finally:
            self._running.row = None
        warn_of_changed(row.counted, self.model, self.name, len(row.calls))

    def _compiled_for(self, returned: bool) -> Callable[..., Any]:
        if returned not in self._compiled:
            require_sizes(self.model)
            function = step_function(self.model, self.loss_fn, returned=returned)
            plan, run = _weakly(self._plan), _weakly(self._run_captured)
            capturer = StepCapturer(plan, run, self.name, _weakly(self._names), self._arguments)
            self._compiled[returned] = compile_function(function, capturer, dynamic=self._dynamic, fullgraph=True)
        return self._compiled[returned]

    def _owners(self) -> dict[nn.Parameter, str]:
        """Parameter -> the device that it lives on."""
        parameters = dict(self.model.named_parameters()) if isinstance(self.model, nn.Module) else {}
        owned = self.session.owners.of(parameters)
        return {parameters[name]: device for name, device in owned.items() if parameters[name].device.type != "meta"}

    def _names(self) -> Mapping[int, str]:
        """Id of each parameter and buffer -> its full name."""
        if not isinstance(self.model, nn.Module):
            return {}
        named = (self.model.named_buffers(), self.model.named_parameters())
        return {id(tensor): name for pairs in named for name, tensor in pairs}

    def _plan(self, captured: Captured) -> Sequence[Any]:
        """Plan what has been captured, for the micro-batches of this call."""
        row = self._current
        row.counted = numbers_of(self.model) if len(row.calls) > 1 else {}
        self._placed[captured, len(row.calls)] = self.session.place(captured, self._wanted(row))
        return ()

    @property
    def _current(self) -> Row:
        row = getattr(self._running, "row", None)
        if not isinstance(row, Row):
            raise CaptureError(f"the captured step of {self.name!r} was called by itself; call the step")
        return row

    def _wanted(self, row: Row) -> Pipelining:
        return Pipelining(len(row.calls), self.schedule)

    def _program_of(self, captured: Captured, row: Row) -> Placed:
        key = captured, len(row.calls)
        if key not in self._placed:
            known = next(placed for (other, _), placed in self._placed.items() if other is captured)
            self._placed[key] = self.session.place_again(captured, known, self._wanted(row))
        return self._placed[key]

    def _run_captured(self, captured: Captured, given: dict[str, Any]) -> Sequence[Any]:
        """Run the micro-batches of this call; Dynamo has found that they fit what was captured.

        Returns:
            For each output of the graph the last micro-batch's: what eager leaves in attributes of the model.
        """
        row, graph = self._current, captured.graph
        self.session.keep_drawn()
        executable = self._program_of(captured, row).parts[0]
        inputs: dict[Instance, Any] = {}
        for value in graph.inputs:
            if value.kind == "tangent":
                numbers = [_number(weight, value, graph.home) for weight in row.weights]
                inputs.update(((value.name, k), number) for k, number in enumerate(numbers))
            elif value.kind in ("parameter", "buffer"):
                inputs[value.name, 0] = given[value.name]
            elif value.kind != "constant":
                inputs.update(((value.name, k), one) for k, one in enumerate(row.each(given[value.name])))
        gradients = Gradients(graph, executable, given)
        inputs.update(gradients.begun())
        self._ran.append(executable)
        results = _optimized(row.optimizing, executable, inputs, gradients)
        gradients.add(results)
        for name, pieces in gradients.of_inputs(results):
            row.gradients += zip(row.each(given[name]), pieces, strict=True)
        ends = [(o.value, made) for o, made in zip(graph.outputs, results, strict=True) if o.kind == "output"]
        row.results = [made for _, made in ends]
        row.handed = [given[v.name] if _is_state(v) else made[-1] for v, made in ends]
        return row.handed

    @staticmethod
    def _hand_back(rows: Sequence[Row]) -> None:
        """Let the gradients of inputs go on to where the caller made these."""
        pairs = [pair for row in rows for pair in row.gradients]
        if pairs:
            torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])


def _optimized(
    optimizing: Optimizing | None, executable: Executable, inputs: dict[Instance, Any], gradients: Gradients
) -> list[list[Any]]:
    """Run a program; each device then updates its parameters, if nothing else will add to their gradients."""
    if optimizing is None or gradients.beyond:
        return executable.run(inputs)
    try:
        return executable.run(inputs, optimizing.behind(executable.active, gradients))
    except ExecutionError as error:
        raise optimizing.spoilt(error) from error


def _call_home(model: nn.Module, device: torch.device) -> None:
    """Let what stands on the meta device be captured as if it were on a device, where it will be."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "meta":
            set_home(tensor, device)


def _weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that does not keep its object alive: Dynamo's caches, where no garbage is found, hold it."""
    found = weakref.WeakMethod(method)
    return lambda *args: found()(*args)  # type: ignore[misc]


def _is_state(value: object) -> bool:
    """Whether it is a parameter or buffer of the caller's."""
    return isinstance(value, Value) and value.kind in ("parameter", "buffer")


def _number(weight: float, value: Value, home: str) -> torch.Tensor:
    """A tangent of a loss: a tensor of one number."""
    return torch.full((), weight, dtype=getattr(torch, value.type.dtype), device=home)  # type: ignore[union-attr]
