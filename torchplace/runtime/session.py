"""A compiled model at work: captured graphs are planned, its programs run, its parameters settled on their devices."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from torchplace.compiler.capture import Captured
from torchplace.compiler.dynamo import Runner
from torchplace.compiler.graph import Value
from torchplace.errors import OptionError
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.pipelining import Pipelining
from torchplace.placement.plan import Plan
from torchplace.placement.plan_cache import planned
from torchplace.placement.planning import Request, finish, follow_plan
from torchplace.runtime.compiled_times import as_run
from torchplace.runtime.executable import Executable
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.pricing import priced
from torchplace.runtime.state import Owners, fill, move_in_place
from torchplace.runtime.weights import Weights, initial


@dataclass(eq=False)
class Placed:
    """One captured graph of a model: its plan, what runs its parts, and the compute costs that it was planned with."""

    plan: Plan
    parts: tuple[Executable, ...]
    cost: ComputeCost


@dataclass(eq=False)
class Session:
    """Handles the graphs that Dynamo finds in one compiled model.

    Attributes:
        request: what is asked of the planner.
        plan: a plan to run, instead of searching one.
        rehearse: run on CPU devices a plan for devices that are not here.
        placed: graphs so far, in the order in which they were captured.
        weights: where the values of parameters on the meta device are (`weights.Weights`); None for as modules begin.
        model: whose parameters they are.
        alone: whether no other process takes part.
    """

    request: Request
    plan: Plan | None = None
    rehearse: bool = False
    placed: list[Placed] = field(default_factory=list)
    weights: Any = None
    model: weakref.ref[nn.Module] | None = None
    alone = True

    @property
    def lookups(self) -> dict[str, bool]:
        """Whether values are looked up in calls, and others expected, as options of `compile_function`.

        Not by who has made a plan before, which is for a graph without. Ranks would have to begin anew together.
        """
        foreseen = self.plan is None
        return {"foreseen": foreseen, "speculative": foreseen and self.alone}

    def __post_init__(self) -> None:
        self.owners = Owners()
        self._drawn: torch.Tensor | None = None
        self.runtime = self._make_runtime()
        self.runtime.codegen = self.request.codegen

    def _make_runtime(self) -> LocalRuntime:
        return LocalRuntime(self.request.topology, self._torch_devices())

    def _torch_devices(self) -> dict[str, torch.device]:
        """The torch device of each device; for a rehearsal, the CPU."""
        devices = self.request.topology.devices
        if self.rehearse:
            return {d.name: torch.device("cpu") for d in devices}
        for d in devices:
            _require_present(d.name, d.torch_device, self.request.topology.name)
        return {d.name: torch.device(d.torch_device) for d in devices}

    def __call__(self, captured: Captured) -> Sequence[Runner]:
        """Plan a graph, settle its parameters, and prepare its programs."""
        return self.place(captured).parts

    def place(self, captured: Captured, pipelining: Pipelining | None = None) -> Placed:
        """Plan a graph, settle its parameters, and prepare its programs.

        Args:
            captured: the graph.
            pipelining: how micro-batches go through it; None for calls that are no step.
        """
        fixed = self.owners.of(captured.state)
        request = self._priced(replace(self.request, pipelining=pipelining), captured)
        plan = self._plan_for(captured, fixed, request)
        self._settle(captured, plan)
        self.placed.append(self._prepared(captured, plan, request.cost))
        return self.placed[-1]

    def _priced(self, request: Request, captured: Captured) -> Request:
        return priced(request, captured)

    def place_again(self, captured: Captured, known: Placed, pipelining: Pipelining) -> Placed:
        """Prepare the program of a graph that is placed already, for another number of micro-batches.

        Args:
            captured: the graph.
            known: how it was placed.
            pipelining: how micro-batches go through it now.
        """
        return self._prepared(captured, self._plan_again(captured, known, pipelining), known.cost)

    def _plan_again(self, captured: Captured, known: Placed, pipelining: Pipelining) -> Plan:
        request = replace(self.request, pipelining=pipelining, cost=known.cost)
        evaluator = request.evaluator(captured, self.owners.of(captured.state))
        return finish(evaluator, known.plan.placement, request, known.plan.solver, known.plan.solve_time)

    def _prepared(self, captured: Captured, plan: Plan, cost: ComputeCost) -> Placed:
        pairs = zip(plan.programs, captured.parts, strict=True)
        return Placed(plan, tuple(self.runtime.prepare(program, part, plan.keys) for program, part in pairs), cost)

    def _plan_for(self, captured: Captured, fixed: dict[str, str], request: Request) -> Plan:
        return as_run(captured, self._found(captured, fixed, request), request, fixed)

    def _found(self, captured: Captured, fixed: dict[str, str], request: Request) -> Plan:
        for plan in () if self.plan is None else (self.plan, *self.plan.rest):
            placement = plan.placement_for(captured)
            if placement is not None:
                return finish(request.evaluator(captured, fixed), placement, request, plan.solver, plan.solve_time)
        if fixed:
            return follow_plan(captured, request, fixed)
        if self.plan is not None and not self.placed:
            raise self.plan.refuse(captured)
        return planned(captured, request)

    def _settle(self, captured: Captured, plan: Plan) -> None:
        path = {v.name: v.path for v in captured.graph.inputs if isinstance(v, Value)}
        devices = {name: plan.parameters[path[name]] for name in captured.state if path[name] in plan.parameters}
        self.owners.settle(captured.state, devices)
        targets = {n: self.runtime.torch_devices[d] for n, d in devices.items()}
        self._materialise({n: t for n, t in captured.state.items() if n in devices}, path, targets)
        move_in_place(captured.state, targets, torch.device(captured.graph.home))

    def _materialise(
        self, state: Mapping[str, torch.Tensor], path: Mapping[str, str], targets: Mapping[str, torch.device]
    ) -> None:
        """Give parameters and buffers that stand on the meta device their values, where they live."""
        bare = {path[name]: (name, t) for name, t in state.items() if t.device.type == "meta"}
        model = None if self.model is None else self.model()
        if not bare or model is None:
            return
        wanted = {full: t for full, (_, t) in bare.items()}
        found = Weights(self.weights).read(wanted) if self.weights is not None else {}
        found.update(initial(model, {full: t for full, t in wanted.items() if full not in found}))
        for full, values in found.items():
            name, tensor = bare[full]
            fill(tensor, values.to(targets[name]))
        self._drawn = torch.get_rng_state()

    def keep_drawn(self) -> None:
        """Let the numbers that weights began with count as drawn: Dynamo undoes what is drawn while it compiles."""
        drawn, self._drawn = self._drawn, None
        if drawn is not None:
            torch.set_rng_state(drawn)

    @property
    def plans(self) -> list[Plan]:
        """The plans in use, one for each graph captured so far."""
        return [p.plan for p in self.placed]


def _require_present(name: str, torch_device: str, topology: str) -> None:
    """Check that a torch device is here."""
    device = torch.device(torch_device)
    here = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count() if here is not None and here.type == device.type else 0
    if device.type != "cpu" and (device.index or 0) >= count:
        raise OptionError(
            f"topology {topology!r} has device {name!r} ({torch_device}), which is not on this machine; pass "
            "rehearse=True to run the plan on CPU devices, or topology=None for the devices that are here"
        )
