"""Runs a placed model beside eager: are the results the same, and which takes longer?"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn

from torchplace.placement.report.units import duration_text
from torchplace.runtime.steps import Step, step_of


@dataclass(frozen=True)
class Measurement:
    """What a run of a placed model showed.

    Attributes:
        compiled: the placed model.
        output_difference: largest absolute difference of an output from eager's; of the loss, for steps that train.
        gradient_difference: likewise of a parameter's gradient; None where there was no backward.
        eager: median seconds of a step in eager.
        placed: median seconds of a step, placed.
        training: whether a step has a backward.
        steps: how many of each were measured, in turn.
    """

    compiled: Any
    output_difference: float
    gradient_difference: float | None
    eager: float
    placed: float
    training: bool
    steps: int

    def to_dict(self) -> dict[str, Any]:
        """The figures, JSON-able."""
        return {k: v for k, v in vars(self).items() if k != "compiled"}

    def __str__(self) -> str:
        what = "forward and backward" if self.training else "forward"
        lines = [f"largest difference from eager, outputs:   {self.output_difference:.3g}"]
        if self.gradient_difference is not None:
            lines.append(f"largest difference from eager, gradients: {self.gradient_difference:.3g}")
        lines.append(f"measured step time {duration_text(self.placed)}, eager {duration_text(self.eager)} ({what};")
        lines[-1] += f" medians of {self.steps} steps each, in turn)"
        return "\n".join(lines)


def measure(
    model: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    compiler: Callable[[Any], Any],
    *,
    training: bool,
    steps: int = 5,
    microbatches: int = 1,
) -> Measurement:
    """Compile a copy of a model, run it and the model in turn, and compare.

    Args:
        model: an `nn.Module` or a function of tensors; eager.
        args: positional arguments of the call.
        kwargs: keyword arguments.
        compiler: places what it is given and returns what to call.
        training: run the backward too, from the sum of the means of the floating-point outputs.
        steps: how many steps of each are measured.
        microbatches: into which a step is split, at most; of more than one, the compiler has to make a step.

    Random ops draw other numbers than eager's: compare such models in `eval()` mode.
    """
    compiled = compiler(copy.deepcopy(model) if isinstance(model, nn.Module) else model)
    eager, placed = (step_of(m, args, kwargs, training, microbatches) for m in (model, compiled))
    results = [_result(step) for step in (eager, placed)]
    times: dict[Step, list[float]] = {eager: [], placed: []}
    for _ in range(steps):
        for step, taken in times.items():
            step.forget()
            start = perf_counter()
            step()
            taken.append(perf_counter() - start)
    return Measurement(
        compiled,
        _difference(results[0][0], results[1][0]),
        _difference(results[0][1], results[1][1]) if training else None,
        statistics.median(times[eager]),
        statistics.median(times[placed]),
        training,
        steps,
    )


def _result(step: Step) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The outputs of a step, and the gradients of the parameters."""
    step.forget()
    return step(), step.gradients


def _difference(expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor]) -> float:
    if len(expected) != len(actual):
        return float("inf")
    pairs = ((e.double(), a.double()) for e, a in zip(expected, actual, strict=True) if e.numel())
    return max((float((e - a).abs().max()) for e, a in pairs), default=0.0)
