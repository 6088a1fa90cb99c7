"""Whole: the micro-batches of a step as one graph, in a pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from torchplace.compiler.capture import Captured
from torchplace.compiler.compiled import compile_function
from torchplace.compiler.dry import require_sizes
from torchplace.compiler.foresight import alike
from torchplace.compiler.graph import Value
from torchplace.compiler.joint import StepCapturer, step_function
from torchplace.compiler.lifetimes import Instance
from torchplace.errors import CaptureError, ExecutionError
from torchplace.placement.pipelining import Pipelining
from torchplace.runtime.counting import numbers_of, warn_of_changed
from torchplace.runtime.executable import Executable
from torchplace.runtime.gradients import Gradients
from torchplace.runtime.optimizing import Optimizing
from torchplace.runtime.row import Row
from torchplace.runtime.session import Placed
from torchplace.runtime.subject import Subject, weakly


class Whole:
    """Runs equal micro-batches as one program; what a micro-batch does is captured as one graph.

    Attributes:
        placed: (graph, number of micro-batches) -> how it is placed.
        ran: the programs that ran since somebody has emptied it.
    """

    def __init__(self, subject: Subject, schedule: str) -> None:
        """Prepare; nothing is captured yet."""
        self.subject, self.schedule = subject, schedule
        self.placed: dict[tuple[Captured, int], Placed] = {}
        self.ran: list[Executable] = []
        self._compiled: dict[bool, Callable[..., Any]] = {}
        self._running = threading.local()  # its `row`, in the thread that runs it

    def run(self, row: Row) -> None:
        """Run the micro-batches of a row; their gradients are added to `.grad`.

        Raises:
            CaptureError: they are no single graph.
            ExecutionError: an op has failed.
        """
        self._running.row, first = row, row.calls[0]
        calls = [{"args": call.args, "kwargs": call.kwargs, "target": call.target} for call in row.calls]
        try:
            with alike(calls):
                _, row.output = self._compiled_for(row.returned)(first.args, first.kwargs, first.target)
        finally:
            self._running.row = None
        warn_of_changed(row.counted, self.subject.model, self.subject.name, len(row.calls))

    def _compiled_for(self, returned: bool) -> Callable[..., Any]:
        if returned not in self._compiled:
            subject = self.subject
            require_sizes(subject.model)
            function = step_function(subject.model, subject.loss_fn, returned=returned)
            plan, run = weakly(self._plan), weakly(self._run_captured)
            capturer = StepCapturer(plan, run, subject.name, weakly(subject.names), subject.arguments)
            self._compiled[returned] = compile_function(
                function, capturer, dynamic=subject.dynamic, fullgraph=True, **subject.session.lookups
            )
        return self._compiled[returned]

    def _plan(self, captured: Captured) -> Sequence[Any]:
        """Plan what has been captured, for the micro-batches of this call."""
        row = self._current
        row.counted = numbers_of(self.subject.model) if len(row.calls) > 1 else {}
        self.placed[captured, len(row.calls)] = self.subject.session.place(captured, self._wanted(row))
        return ()

    @property
    def _current(self) -> Row:
        row = getattr(self._running, "row", None)
        if not isinstance(row, Row):
            raise CaptureError(f"the captured step of {self.subject.name!r} was called by itself; call the step")
        return row

    def _wanted(self, row: Row) -> Pipelining:
        return Pipelining(len(row.calls), self.schedule)

    def _program_of(self, captured: Captured, row: Row) -> Placed:
        key = captured, len(row.calls)
        if key not in self.placed:
            known = next(placed for (other, _), placed in self.placed.items() if other is captured)
            self.placed[key] = self.subject.session.place_again(captured, known, self._wanted(row))
        return self.placed[key]

    def _run_captured(self, captured: Captured, given: dict[str, Any]) -> Sequence[Any]:
        """Run the micro-batches of this call; Dynamo has found that they fit what was captured.

        Returns:
            For each output of the graph the last micro-batch's: what eager leaves in attributes of the model.
        """
        row, graph = self._current, captured.graph
        self.subject.session.keep_drawn()
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
        if captured.expected:
            results = self._tried(executable, inputs)
        else:
            inputs.update(gradients.begun())
            self.ran.append(executable)
            with alike(()):  # what is called while it runs is another matter
                results = _optimized(row.optimizing, executable, inputs, gradients)
        gradients.add(results)
        for name, pieces in gradients.of_inputs(results):
            row.gradients += zip(row.each(given[name]), pieces, strict=True)
        ends = [(o.value, made) for o, made in zip(graph.outputs, results, strict=True) if o.kind == "output"]
        row.results = [made for _, made in ends]
        row.handed = [given[v.name] if _is_state(v) else made[-1] for v, made in ends]
        return row.handed

    def _tried(self, executable: Executable, inputs: dict[Instance, Any]) -> list[list[Any]]:
        """What a program gives that may fail, and the step begin anew: it changes no gradients and no parameters."""
        with alike(()):
            results = executable.run(inputs)
        self.ran.append(executable)
        return results


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


def _is_state(value: object) -> bool:
    """Whether it is a parameter or buffer of the caller's."""
    return isinstance(value, Value) and value.kind in ("parameter", "buffer")


def _number(weight: float, value: Value, home: str) -> torch.Tensor:
    """A tangent of a loss: a tensor of one number."""
    return torch.full((), weight, dtype=getattr(torch, value.type.dtype), device=home)  # type: ignore[union-attr]
