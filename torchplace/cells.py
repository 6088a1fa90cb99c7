"""The cells of a comparison: a model, a topology and a solver each, to be planned one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.dynamo import argument_names
from torchplace.compiler.joint import capture_step
from torchplace.errors import CaptureError, InfeasibleError, OptionError
from torchplace.options import Options
from torchplace.placement.plan import Example
from torchplace.placement.planning import Request
from torchplace.placement.report.comparison import Row
from torchplace.placement.solvers.registry import solver_names
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.compiled_times import plan_as_run
from torchplace.runtime.microbatches import TARGET, Splitter, call_of
from torchplace.runtime.pricing import priced

PLAN_SECONDS = 10.0
"""Limit of a search where the user gave none and waits for the plan."""


@dataclass(frozen=True)
class Cell:
    """What one solver is asked: for one model, on one topology.

    Attributes:
        model: name of the model.
        captured: its graph.
        topology: name of the topology, as it was asked for.
        request: what is asked of the planner, costs included.
    """

    model: str
    captured: Captured
    topology: str
    request: Request

    def __str__(self) -> str:
        return f"{self.request.solver} for {self.model} on {self.topology}"

    def row(self) -> Row:
        """Plan it; that nothing fits is an answer, too.

        Raises:
            TorchplaceError: anything else is wrong: a solver that breaks its promise, a pin that names nothing.
        """
        begun = perf_counter()
        found, reason = None, ""
        try:
            found = plan_as_run(self.captured, self.request)
        except InfeasibleError as error:
            reason = str(error)
        # Without what all solvers share: the bound, and the simulation of the answer.
        seconds = perf_counter() - begun if found is None else found.solve_time
        ops = len(self.captured.graph.ops)
        return Row(self.request.solver, found, seconds, reason, self.topology, self.model, ops, self.request.objective)


def plan_cells(
    models: Mapping[str, Example],
    options: Mapping[str, Any],
    solvers: str | Sequence[str] = "all",
    topologies: str | Sequence[Topology | str | Path] | None = None,
    told: Callable[[str], None] = lambda doing: None,
) -> list[Cell]:
    """Capture models, and say which cells there are: for each model, for each topology, for each solver.

    What can be wrong with a model, a topology or an option is wrong here, before anything is solved.

    Args:
        models: name -> the call to plan; a name of "" stands for the one that its graph has.
        options: see `Options`.
        solvers: as `api.compare` has them.
        topologies: as `api.compare` has them.
        told: is told what is being done.

    Raises:
        CaptureError: a call could not be captured.
        CostError: costs were asked for that are not known.
        OptionError: an option is unknown or has a value that it cannot have.
        TopologyError: there is no such topology.
    """
    names = list(dict.fromkeys(solver_names() if solvers == "all" else _named(solvers)))
    if not names:
        raise OptionError("solvers is empty; expected one or more, or 'all'")
    checked = [Options.of({**options, "solver": name}) for name in names]
    requests = _requests(checked[0], topologies)
    found = []
    for name, example in models.items():
        told(f"capturing {name or type(example.model).__name__}")
        captured = _largest(name, example, checked[0])
        for topology, request in requests.items():
            known = priced(request, captured)
            asked = [dataclasses.replace(known, solver=solver) for solver in names]
            found += [Cell(name or captured.graph.name, captured, topology, request) for request in asked]
    return found


def _largest(name: str, example: Example, options: Options) -> Captured:
    try:
        return max(capture(example, options), key=lambda c: len(c.graph.ops))
    except CaptureError as error:
        if not name:
            raise
        raise CaptureError(f"model {name!r}: {error}") from error


def capture(example: Example, options: Options) -> list[Captured]:
    """The graphs of a call, one for each part between graph breaks; of a step, that of a micro-batch.

    Raises:
        CaptureError: it could not be captured.
    """
    args = (example.args,) if isinstance(example.args, torch.Tensor) else tuple(example.args)
    kwargs = dict(example.kwargs)
    if options.step:
        return [_capture_step(example.model, args, kwargs, options)]
    return capture_dry(
        example.model,
        args,
        kwargs,
        training=options.training,
        fullgraph=options.fullgraph,
        dynamic=options.dynamic,
    )


def _capture_step(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options) -> Captured:
    names = argument_names(model)
    call = call_of(args, kwargs, kwargs.pop(TARGET, None), options.loss_fn)
    first = Splitter(options.microbatches, options.batch_dims, names).split(call).calls[0]
    return capture_step(
        model,
        (first.args, first.kwargs, first.target),
        options.loss_fn,
        training=options.training or options.loss_fn is not None,
        dynamic=options.dynamic,
    )


def examples(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> dict[str, Example]:
    """Name -> call, of a model and its arguments, or of a mapping of several; the name of a single model is "".

    Raises:
        OptionError: the mapping is empty, or an entry is no (model, args[, kwargs]), or arguments are given beside it.
    """
    if not isinstance(model, Mapping) or isinstance(model, nn.Module):
        return {"": Example(model, args, dict(kwargs or {}))}
    if not model:
        raise OptionError("the mapping of models is empty; expected {name: (model, args[, kwargs])}")
    if isinstance(args, torch.Tensor) or len(args) or kwargs:
        raise OptionError(
            f"{len(model)} model(s) were given by name, and arguments beside them; expected each model's own with it: "
            "{name: (model, args[, kwargs])}"
        )
    return {str(name): _example(name, entry) for name, entry in model.items()}


def _example(name: Any, entry: Any) -> Example:
    match entry:
        case (model, tuple() | list() as args):
            return Example(model, args)
        case (model, tuple() | list() as args, Mapping() as kwargs):
            return Example(model, args, dict(kwargs))
        case (model, torch.Tensor() as x, *rest):
            return _example(name, (model, (x,), *rest))
    raise OptionError(f"model {name!r} is a {type(entry).__name__}; expected (model, args) or (model, args, kwargs)")


def _named(given: str | Sequence[Any]) -> list[Any]:
    return [s.strip() for s in given.split(",")] if isinstance(given, str) else list(given)


def _requests(options: Options, topologies: str | Sequence[Topology | str | Path] | None) -> dict[str, Request]:
    """What is asked for each topology, by the name that it was asked for by."""
    if topologies is None:
        request = options.request(PLAN_SECONDS)
        return {request.topology.name: request}
    if options.topology is not None:
        raise OptionError(f"topology={options.topology!r} and topologies={topologies!r} were both given; give one")
    found = _named(topologies)
    if not found:
        raise OptionError("topologies is empty; expected one or more")
    requests = [(t, dataclasses.replace(options, topology=t).request(PLAN_SECONDS)) for t in found]
    return {r.topology.name if isinstance(t, Topology) else str(t): r for t, r in requests}
