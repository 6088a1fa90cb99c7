"""The few lines that a user touches: `compile`, `plan`, `plans`, `compare`, and the Dynamo backend."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchplace.cells import PLAN_SECONDS, capture, examples, plan_cells
from torchplace.compiler.capture import Capturer
from torchplace.compiler.compiled import compile_function, compile_module
from torchplace.compiler.dispatched import take_back
from torchplace.compiler.dynamo import argument_names
from torchplace.compiler.settings import listen
from torchplace.errors import OptionError
from torchplace.options import Options
from torchplace.placement.plan import Example, Plan, validate_with
from torchplace.placement.report.comparison import Comparison, Row
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.compiled_times import plan_as_run
from torchplace.runtime.pipelined import Step
from torchplace.runtime.pricing import priced
from torchplace.runtime.rank_session import RankSession, rank_topology
from torchplace.runtime.ranks import under_torchrun
from torchplace.runtime.session import Session
from torchplace.runtime.trial import try_plan

FIRST_CALL_SECONDS = 1.0

listen()  # for `torch.compile(..., backend="torchplace")`, which begins before it asks for us

_sessions: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def compile(model: Any = None, **options: Any) -> Any:
    """Place a model or function on many devices: it is captured at its first call, planned, and run from then on.

    A module is compiled in place, as `nn.Module.compile()` does it: its class, call signature, `state_dict` keys,
    parameters and attributes stay. Ordinary autograd works through it.

    Args:
        model: an `nn.Module`, a class of them, or a function of tensors; None when used as `@compile(...)`.
        **options: see `Options`: `topology`, `solver`, `pins`, `plan`, `rehearse`, `dynamic`, `fullgraph`, `seed`...

    A model that Accelerate has dispatched (`hf_device_map`) is taken back: the plan takes the place of its device map.

    With `loss_fn`, or with more than one of `microbatches`, what is compiled is a step: forward, loss and backward in
    one, micro-batch by micro-batch (`runtime.pipelined.Step`).

    Returns:
        The same module or class; for a function, a new one that runs placed; for a step, that: a function of the
        model's arguments and the target that returns the loss.

    Raises:
        OptionError: an option is unknown or has a value that it cannot have.
        PlanError: the plan given is damaged or for another topology (for another model: at the first call).

    Example:
        >>> model = compile(model, topology="local:2", solver="balanced")  # doctest: +SKIP
    """
    checked = Options.of(options)
    if model is None:
        return lambda target: compile(target, **options)
    if checked.step and (isinstance(model, nn.Module) or (callable(model) and not inspect.isclass(model))):
        return _compile_step(model, checked)
    if checked.step:
        raise OptionError(f"cannot make a step of {model!r}; expected an nn.Module that is there, or a function")
    if isinstance(model, nn.Module):
        return _compile_instance(model, checked)
    if inspect.isclass(model) and issubclass(model, nn.Module):
        model._compiled_call_impl = _CompiledOnFirstCall(checked)  # type: ignore[assignment]
        return model
    if callable(model) and not inspect.isclass(model):
        return _compile_function(model, checked)
    raise OptionError(f"cannot compile {model!r}; expected an nn.Module, a class of them, or a function of tensors")


def _session(options: Options) -> Session:
    plan = options.loaded_plan()
    if plan is not None:
        plan = dataclasses.replace(plan, example=None)  # a session must not keep alive the model that keeps it
    return Session(options.request(FIRST_CALL_SECONDS, plan), plan, options.rehearse)


def _compile_instance(model: nn.Module, options: Options) -> nn.Module:
    take_back(model)
    session = _session(options)
    names = functools.partial(_names_of, weakref.ref(model))
    capturer = Capturer(session, type(model).__name__, names, arguments=argument_names(model))
    compile_module(model, capturer, dynamic=options.dynamic, fullgraph=options.fullgraph, **session.lookups)
    _sessions[model] = session
    return model


def _step_session(options: Options) -> Session:
    """What runs a step: this process, or, under torchrun, all ranks together."""
    if not under_torchrun() or options.rehearse:
        return _session(options)
    plan = options.loaded_plan()
    here = dataclasses.replace(options, topology=options.topology or (plan.topology if plan else rank_topology()))
    plan = None if plan is None else dataclasses.replace(plan, example=None)
    return RankSession(here.request(FIRST_CALL_SECONDS, plan), plan, options.fault_timeout)


def _compile_step(model: Any, options: Options) -> Step:
    take_back(model)
    session = _step_session(options)
    if options.dynamic and isinstance(session, RankSession):
        raise OptionError("dynamic is True; expected None or False on several ranks, which must know all sizes")
    step = Step(
        model,
        session,
        loss_fn=options.loss_fn,
        microbatches=options.microbatches,
        batch_dims=options.batch_dims,
        reduction=options.reduction,
        schedule=options.schedule,
        optimizer=options.optimizer if isinstance(options.optimizer, torch.optim.Optimizer) else None,
        dynamic=False if isinstance(session, RankSession) else options.dynamic,
        fullgraph=options.fullgraph,
    )
    step.session.weights = options.weights
    _sessions[step] = step.session
    return step


def _compile_function(function: Callable[..., Any], options: Options) -> Callable[..., Any]:
    session = _session(options)
    capturer = Capturer(session, getattr(function, "__name__", "function"))
    compiled = compile_function(
        function, capturer, dynamic=options.dynamic, fullgraph=options.fullgraph, **session.lookups
    )
    wrapper = functools.wraps(function)(lambda *args, **kwargs: compiled(*args, **kwargs))
    _sessions[wrapper] = session
    return wrapper


class _CompiledOnFirstCall:
    """Stands in a decorated class where `nn.Module.__call__` looks for a compiled call.

    Each instance is compiled when it is first called: by then its `__init__`, and any subclass's, has ended.
    """

    def __init__(self, options: Options) -> None:
        self.options = options

    def __get__(self, instance: nn.Module | None, owner: type) -> Any:
        if instance is None:
            return None
        _compile_instance(instance, self.options)
        return instance.__dict__["_compiled_call_impl"]


def _names_of(model: weakref.ref[nn.Module]) -> dict[int, str]:
    """Id of each parameter and buffer -> its full name, looked up afresh: modules may have been swapped."""
    held = model()
    named = () if held is None else (held.named_buffers(), held.named_parameters())
    return {id(tensor): name for pairs in named for name, tensor in pairs}


def backend(module: torch.fx.GraphModule, inputs: Sequence[Any], **options: Any) -> Callable[..., Any]:
    """The Dynamo backend: `torch.compile(model, backend="torchplace", options={"topology": "local:2"})`."""
    listen()
    given = dict(options.pop("options", None) or {})
    options.pop("mode", None)
    if Options.of(given).step:
        raise OptionError("a Dynamo backend makes no steps: call tp.compile(model, loss_fn=..., microbatches=...)")
    session = _backend_session(_Given(_hashable(given), given))
    return Capturer(session, "model")(module, inputs)


@dataclasses.dataclass(frozen=True)
class _Given:
    """Options that are told apart by `key`."""

    key: Any
    options: Mapping[str, Any] = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=64)
def _backend_session(given: _Given) -> Session:
    """One session for all graphs captured with the same options: parameters keep their devices between them."""
    return _session(Options.of(given.options))


def _hashable(value: Any) -> Any:
    """Mappings and lists as tuples of what they hold; anything else as it is."""
    if isinstance(value, Mapping):
        return tuple((key, _hashable(value[key])) for key in sorted(value, key=str))
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def plan(model: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Plan:
    """Plan a call without running it: nothing is computed, and a model on the meta device stays there.

    Args:
        model: an `nn.Module` or a function of tensors.
        args: positional arguments of the call (a single tensor stands for one argument).
        kwargs: keyword arguments.
        **options: see `Options`; `training=True` plans forward and backward.

    Returns:
        The plan of the largest graph; `rest` has those of others, where the model has graph breaks.

    Raises:
        CaptureError: the call could not be captured.
        InfeasibleError: nothing fits the devices; says which lacks how many bytes.
        OptionError: an option is unknown or has a value that it cannot have.
    """
    checked = Options.of(options)
    request = checked.request(PLAN_SECONDS)
    example = Example(model, args, dict(kwargs or {}), checked.capture)
    found = capture(example, checked)
    ordered = sorted((plan_as_run(c, priced(request, c)) for c in found), key=lambda p: -len(p.placement))
    return dataclasses.replace(ordered[0], rest=tuple(ordered[1:]), example=example)


def _compiled(model: Any, options: Mapping[str, Any]) -> tuple[Any, Session]:
    compiled = compile(model, **options)
    return compiled, session_of(compiled)


validate_with(functools.partial(try_plan, _compiled))


def plans(model: Any) -> list[Plan]:
    """The plans in use by a compiled model or function, one for each graph captured so far.

    Raises:
        OptionError: it was not compiled by torchplace.
    """
    try:
        return _sessions[model].plans
    except (KeyError, TypeError):
        name = getattr(model, "__name__", type(model).__name__)
        raise OptionError(f"{name!r} is not compiled by torchplace; pass what tp.compile returned") from None


def session_of(model: Any) -> Session:
    """What runs a compiled model: its plans, programs and timelines."""
    plans(model)
    return _sessions[model]


def compare(
    model: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    solvers: str | Sequence[str] = "all",
    topologies: str | Sequence[Topology | str | Path] | None = None,
    on_row: Callable[[Row], None] | None = None,
    **options: Any,
) -> Comparison:
    """Plan calls with several solvers, for several topologies, side by side; each is captured once.

    What was found is printed at the end, and also where an interrupt or an error ends it; that is raised then.

    Args:
        model: as for `plan`; or several, name -> (model, args) or (model, args, kwargs).
        args: positional arguments of the call.
        kwargs: keyword arguments.
        solvers: names, or "all".
        topologies: as the option `topology` has one, instead of that; or names with commas between.
        on_row: is called with each row as it comes; then nothing is printed.
        **options: see `Options`.

    Returns:
        One row for each model, topology and solver: prints as a table; `plot("out.html")` draws it.

    Raises:
        CaptureError: a call could not be captured.
        OptionError: there is no such solver, or both `topology` and `topologies` were given.
        TopologyError: there is no such topology.

    Example:
        >>> rows = tp.compare({"small": (net, (x,)), "large": (other, (y,))}, topology="big-sur")  # doctest: +SKIP
        >>> rows.plot("quality-against-time.html")  # doctest: +SKIP
    """
    rows = Comparison()
    try:
        for cell in plan_cells(examples(model, args, kwargs), options, solvers, topologies):
            rows.append(cell.row())
            if on_row is not None:
                on_row(rows[-1])
    finally:
        if on_row is None and rows:
            print(rows)
    return rows
