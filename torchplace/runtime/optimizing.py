"""Runs an optimizer on many devices: each updates its own parameters, as soon as their gradients are complete."""

from __future__ import annotations

import copy
import functools
import queue
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from torchplace.errors import ExecutionError
from torchplace.runtime.gradients import Gradients
from torchplace.runtime.interpreter import Behind, Env
from torchplace.runtime.local import LocalRuntime


class Optimizing:
    """One step of an optimizer, each device its own parameters; gradients are dropped then.

    The result is that of `optimizer.step()`, for an optimizer that treats every parameter by itself, as those of torch
    do but for LBFGS. State and settings stay those of the optimizer. Its hooks, which may look at all gradients, are
    called once, when all are complete; then no device begins before the others.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, owners: Callable[[], Mapping[nn.Parameter, str]]) -> None:
        """Prepare a step.

        Args:
            optimizer: whose step it is.
            owners: gives parameter -> device, asked when the first is updated: a first step plans before that. Others
                are updated by the caller's thread.
        """
        self.optimizer, self._owners = optimizer, owners
        self.done: list[str] = []

    @functools.cached_property
    def parts(self) -> dict[str, torch.optim.Optimizer]:
        """Device -> what updates its parameters."""
        return _parts(self.optimizer, self._owners())

    def behind(self, devices: Iterable[str], gradients: Gradients) -> dict[str, Behind]:
        """What each device does when it has done all else of a program that makes gradients."""
        if self.optimizer._optimizer_step_pre_hooks or self.optimizer._optimizer_step_post_hooks:
            return {}

        def job(device: str) -> Behind:
            def run(env: Env) -> None:
                gradients.hand(device, env)
                self.done.append(device)  # whatever it does from here on, parameters may have changed
                self._step(device)

            return run

        return {device: job(device) for device in devices if device in self.parts}

    def _step(self, device: str) -> None:
        try:
            with torch.no_grad():
                self.parts[device].step()
        except Exception as error:
            where = f" of the parameters on {device}" if device else ""
            raise ExecutionError(f"the optimizer's step{where} failed: {type(error).__name__}: {error}") from error

    def finish(self, runtime: LocalRuntime) -> None:
        """Update what no device has updated yet, all devices at once.

        Args:
            runtime: whose workers do it.

        Raises:
            ExecutionError: a part has failed.
        """
        optimizer = self.optimizer
        for before in optimizer._optimizer_step_pre_hooks.values():
            before(optimizer, (optimizer,), {})
        self._rest(runtime)
        for after in optimizer._optimizer_step_post_hooks.values():
            after(optimizer, (optimizer,), {})
        optimizer._opt_called = True  # type: ignore[attr-defined]  # schedulers look at it, to warn of a wrong order
        optimizer.zero_grad()

    def _rest(self, runtime: LocalRuntime) -> None:
        left = [device for device in self.parts if device not in self.done]
        others = [device for device in left if device]
        others = others if len(others) > 1 else []  # a single one is as well done here
        outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def job(device: str) -> Any:
            def run() -> None:
                try:
                    self._step(device)
                    outcomes.put(None)
                except BaseException as error:
                    outcomes.put(error)

            return run

        runtime.workers.submit({device: job(device) for device in others}, {})
        for device in left:
            if device not in others:
                self._step(device)
        failed = [error for error in [outcomes.get() for _ in others] if error is not None]
        if failed:
            raise failed[0]

    def spoilt(self, error: ExecutionError) -> ExecutionError:
        """The error of a step that fails, which says what is lost if some device has updated its parameters."""
        if not self.done:
            return error
        return type(error)(
            f"{error}; the optimizer has updated the parameters on {', '.join(sorted(self.done))} before that, so that "
            "they are a step ahead of the others: go on from a checkpoint"
        )


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
    part = copy.copy(optimizer)  # without its hooks
    part.__dict__.pop("step", None)  # a scheduler's, which would update all parameters
    part.__dict__["param_groups"] = groups
    part.__dict__["state"] = optimizer.state
    return part
