"""A model that is captured once and runs under one plan after another: capturing costs seconds, planning does not."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from torchplace import Topology
from torchplace.compiler.capture import Captured, Capturer
from torchplace.compiler.compiled import compile_module
from torchplace.compiler.dynamo import Runner
from torchplace.placement.planning import Request
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.session import Session


@dataclass(frozen=True)
class Setting:
    """What a plan is made with."""

    devices: int
    solver: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.solver}{f' {self.seed}' * (self.solver == 'random')} on {self.devices}"

    @property
    def request(self) -> Request:
        return Request(Topology.local(self.devices), solver=self.solver, seed=self.seed, time_limit=1.0)


ONE_DEVICE = Setting(1, "single")
"""The captured program as it is: what every other plan must equal to the bit."""


class Switchboard:
    """Compiles a model in place; every call runs under the setting that is current.

    Each captured graph is planned by the setting's solver, and not around the parameters' homes, as later graphs of
    a model otherwise are: CPU devices share memory, so that any plan can follow any other.
    """

    def __init__(self, model: nn.Module, **options: Any) -> None:
        """Compile `model`; options are those of `torch.compile`."""
        self.model, self.setting = model, ONE_DEVICE
        self.captured: list[Captured] = []
        self.ready: dict[tuple[Setting, int], Sequence[Runner]] = {}
        self.runtimes: dict[int, LocalRuntime] = {}
        compile_module(model, Capturer(self._connect, type(model).__name__, self._names), **options)

    def _names(self) -> dict[int, str]:
        return {id(t): n for n, t in (*self.model.named_buffers(), *self.model.named_parameters())}

    def _connect(self, captured: Captured) -> list[Runner]:
        number = len(self.captured)
        self.captured.append(captured)
        return [functools.partial(self._run, number, part) for part in range(len(captured.parts))]

    def _run(self, number: int, part: int, args: list[Any]) -> Sequence[Any]:
        key = (self.setting, number)
        if key not in self.ready:
            self.ready[key] = self._session()(self.captured[number])
        return self.ready[key][part](args)

    def _session(self) -> Session:
        session = Session(self.setting.request)
        session.runtime = self.runtimes.setdefault(self.setting.devices, session.runtime)
        return session

    def use(self, setting: Setting) -> None:
        """Run under a setting from now on; what was prepared for others is dropped."""
        self.setting = setting
        self.ready = {key: runners for key, runners in self.ready.items() if key[0] == setting}
