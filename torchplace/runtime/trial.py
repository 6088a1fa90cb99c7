"""Runs a copy of a plan's model by that plan, so that nothing of the caller's changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from torchplace.errors import OptionError, PlanError
from torchplace.placement.plan import Example, Plan
from torchplace.placement.report.validation import Validation
from torchplace.runtime.op_times import is_here
from torchplace.runtime.pricing import COSTS
from torchplace.runtime.session import Session
from torchplace.runtime.steps import Step, generators_kept
from torchplace.runtime.validation import validate

Compiler = Callable[[Any, Mapping[str, Any]], tuple[Any, Session]]
"""Compiles a model with options, and gives what runs it."""


def try_plan(compiler: Compiler, plan: Plan, example: Example, *, steps: int, rehearse: bool) -> Validation:
    """Validate a plan (`Plan.validate`).

    Args:
        compiler: places what it is given.
        plan: the plan.
        example: the call to run. Needs memory for a copy of its model.
        steps: how many are measured.
        rehearse: run the plan of another machine on CPU devices.

    Raises:
        PlanError: the plan is for another machine or model, or the model cannot be copied.
        OptionError: `steps` is not above 0.
    """
    _require_here(plan, rehearse)
    if steps < 1:
        raise OptionError(f"steps is {steps!r}; expected a whole number of 1 or more")
    with generators_kept():
        model, args, kwargs = _copied(example)
        cost = plan.cost if plan.cost in COSTS else "auto"
        compiled, session = compiler(model, {**example.capture, "plan": plan, "cost": cost, "rehearse": rehearse})
        return validate(session, Step(compiled, args, kwargs, plan.training), steps=steps, plan=plan)


def _require_here(plan: Plan, rehearse: bool) -> None:
    elsewhere = next((d for d in plan.topology.devices if not is_here(d)), None)
    if elsewhere is not None and not rehearse:
        raise PlanError(
            f"the plan is for {plan.topology.name!r}, whose device {elsewhere.name!r} ({elsewhere.torch_device}) is "
            "not on this machine; plan for topology='local:2' to validate here, or pass rehearse=True to run this plan "
            "on CPU devices (what is measured is then this machine's time)"
        )


def _copied(example: Example) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A model, if it is a module, and its arguments, which may be written to and get gradients."""
    given = (example.args,) if isinstance(example.args, torch.Tensor) else tuple(example.args)
    args, kwargs = pytree.tree_map_only(torch.Tensor, _own, (given, dict(example.kwargs)))
    model = example.model
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    if isinstance(model, nn.Module):
        tensors += [*model.parameters(), *model.buffers()]
    if any(t.device.type == "meta" for t in tensors):
        raise PlanError(
            "the plan's model or arguments are on the meta device, where nothing runs; pass real ones: "
            "plan.validate(model, args)"
        )
    try:
        return copy.deepcopy(model) if isinstance(model, nn.Module) else model, args, kwargs
    except Exception as error:
        raise PlanError(
            f"validate runs a copy of the model, and {type(model).__name__} cannot be copied "
            f"({type(error).__name__}: {error}); run the model itself with tp.compile(model, plan=plan)"
        ) from error


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)
