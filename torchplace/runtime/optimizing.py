"""Runs an optimizer on many devices at once: each worker updates the parameters of its own device."""

from __future__ import annotations

import copy
import queue
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from torchplace.runtime.local import LocalRuntime


def step_on_devices(
    optimizer: torch.optim.Optimizer, owners: Mapping[nn.Parameter, str], runtime: LocalRuntime
) -> None:
    """Do a step of an optimizer, each device its own parameters, and drop the gradients.

    The result is that of `optimizer.step()`, for an optimizer that treats every parameter by itself, as those of torch
    do but for LBFGS. State, settings and hooks stay those of the optimizer.

    Args:
        optimizer: whose step it is.
        owners: parameter -> device; others are updated by the caller.
        runtime: whose workers do it.

    Raises:
        Exception: what the first part that failed has raised.
    """
    parts = _parts(optimizer, owners)
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def job(part: torch.optim.Optimizer) -> Any:
        def run() -> None:
            try:
                with torch.no_grad():
                    part.step()
                done.put(None)
            except BaseException as error:
                done.put(error)

        return run

    others = {device: part for device, part in parts.items() if device}
    if len(others) < 2:
        for part in parts.values():
            part.step()
    else:
        runtime.submit({device: job(part) for device, part in others.items()}, {})
        if "" in parts:
            parts[""].step()
        failed = [error for error in [done.get() for _ in others] if error is not None]
        if failed:
            raise failed[0]
    optimizer._opt_called = True  # type: ignore[attr-defined]  # what schedulers look at, to warn of a wrong order
    optimizer.zero_grad()


def _parts(optimizer: torch.optim.Optimizer, owners: Mapping[nn.Parameter, str]) -> dict[str, torch.optim.Optimizer]:
    """Device -> the optimizer, with the parameters that live there; "" for those that live on none."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for group in optimizer.param_groups:
        held: dict[str, list[torch.Tensor]] = {}
        for parameter in group["params"]:
            held.setdefault(owners.get(parameter, ""), []).append(parameter)
        for device, parameters in held.items():
            groups.setdefault(device, []).append({**group, "params": parameters})
    return {device: _part(optimizer, mine) for device, mine in groups.items()}


def _part(optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """An optimizer that shares all but its groups with another."""
    part = copy.copy(optimizer)
    part.__dict__.pop("step", None)  # a scheduler's, which would update all parameters
    part.__dict__["param_groups"] = groups
    part.__dict__["state"] = optimizer.state
    return part
