"""Plan: the placement of a captured graph, what it is predicted to cost, and what made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torchplace.compiler.capture import Captured
from torchplace.compiler.program import Program
from torchplace.errors import PlanError
from torchplace.placement.device_map import device_map
from torchplace.placement.predicted import Predicted
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology.topology import Topology

if TYPE_CHECKING:
    from torchplace.placement.report.validation import Validation


@dataclass(frozen=True, eq=False, repr=False)
class Example:
    """The call that a plan was made of.

    Attributes:
        model: an `nn.Module` or a function of tensors.
        args: positional arguments.
        kwargs: keyword arguments.
        capture: options of the capture, by name (`dynamic`, `fullgraph`).
    """

    model: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    capture: Mapping[str, Any] = field(default_factory=dict)


class Validator(Protocol):
    """Runs a plan on this machine (`Plan.validate`)."""

    def __call__(self, plan: Plan, example: Example, *, steps: int, rehearse: bool) -> Validation:
        """Run the plan for some steps, and line them up with what was predicted."""


_validators: list[Validator] = []


def validate_with(validator: Validator) -> None:
    """Say who runs plans: this package runs nothing, and imports nothing that does."""
    _validators[:] = [validator]


@dataclass(eq=False, repr=False)
class Plan:
    """Op -> device, with its predicted cost, its lower bound and what made it.

    Attributes:
        name: of the model.
        topology: that it is for.
        placement: op name -> device name.
        keys: op name -> structural key: another capture of the model is recognised by them.
        fingerprint: of the graph.
        parameters: full name of a parameter or buffer -> device that it lives on.
        parameter_bytes: device -> bytes of state that live there.
        training: whether the graph has its backward.
        objective: what the solver minimised.
        solver: name of the solver whose placement it is; of `auto`, with the one that it took: `auto (heft)`.
        solve_time: seconds that the search took.
        cost: name of the source of compute costs.
        seed: of the solver.
        optimizer: whose state is counted in the memory: its kind or class; "" for none.
        predicted: what it should cost.
        lower_bound: seconds that no plan can beat on this cost model, of what the objective says.
        bound: the relaxation that gave it, of each part where they differ; "" if it is not known.
        microbatches: of a step, that go through the graph one after the other.
        schedule: in which order devices do their forward and backward passes; "" for a single micro-batch.
        programs: what runs, one for each part (empty when loaded from a file).
        timeline: what would run, when (None when loaded from a file).
        rest: plans of the model's other graphs, where it has graph breaks.
        broken: where its graph ends before the call does, and why: a graph break. "" where it does not.
        holds: what sizes of its inputs it is for, where they may change: `x[0] from 2 to 64`. Others are planned anew.
        found: what lines of the model have found that look at values: `models/net.py:7 finds True`, of integers that a
            call is given; `models/net.py:9 expects 3`, of what the model computes. Other calls are planned anew.
        split: module -> devices of its forward ops, where they are not all on the one that `device_map()` has for the
            module: what a map of modules cannot say.
        example: the call that it was made of, which it keeps alive; None when loaded from a file.
    """

    name: str
    topology: Topology
    placement: dict[str, str]
    keys: dict[str, str]
    fingerprint: str
    parameters: dict[str, str]
    parameter_bytes: dict[str, int]
    training: bool
    objective: str
    solver: str
    solve_time: float
    cost: str
    seed: int
    predicted: Predicted
    lower_bound: float
    bound: str = ""
    optimizer: str = ""
    microbatches: int = 1
    schedule: str = ""
    programs: tuple[Program, ...] = ()
    timeline: Timeline | None = None
    rest: tuple[Plan, ...] = ()
    broken: str = ""
    holds: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    split: dict[str, list[str]] = field(default_factory=dict)
    example: Example | None = None

    @property
    def gap(self) -> float:
        """How far what the objective says is from the lower bound at most: 0.25 is a quarter above it."""
        if self.lower_bound == 0:
            return 0.0 if self.value == 0 else inf
        return self.value / self.lower_bound - 1

    @property
    def value(self) -> float:
        """Predicted seconds of what the objective says: of one step, or from step to step in steady state."""
        return self.predicted.period if self.objective == "throughput" else self.predicted.step_time

    @property
    def devices_used(self) -> tuple[str, ...]:
        """The devices that own an op, in the topology's order."""
        used = set(self.placement.values())
        return tuple(d for d in self.topology.device_names if d in used)

    @property
    def ops_on(self) -> dict[str, int]:
        """Device -> number of ops."""
        counts = Counter(self.placement.values())
        return {d: counts[d] for d in self.topology.device_names}

    def parameter_devices(self) -> dict[str, str]:
        """Full name of each parameter and buffer -> the device that it lives on."""
        return dict(self.parameters)

    def device_map(self) -> dict[str, int]:
        """Module -> index of its device, as Accelerate's `dispatch_model` takes it.

        A module stands for all in it where that lives on one device; else its children stand for themselves, and
        at the end single parameters. Ops are placed one by one: modules that the plan splits finer are in `split`.
        """
        return device_map({path: self.topology.index(d) for path, d in self.parameters.items()})

    def placement_for(self, captured: Captured) -> dict[str, str] | None:
        """This plan's placement of another capture of the same graph; None when the graph is another one."""
        keys = captured.graph.keys()
        if captured.graph.fingerprint(keys) != self.fingerprint:
            return None
        device_of = {key: self.placement[op] for op, key in self.keys.items()}
        return {op: device_of[key] for op, key in keys.items()}

    def refuse(self, captured: Captured) -> PlanError:
        """The error for a graph that this plan was not made for: says what differs."""
        mine = "forward and backward" if self.training else "forward only"
        other = "forward and backward" if captured.training else "forward only"
        hint = "make the plan with the model, inputs and mode that it will run with"
        if self.training != captured.training:
            hint = f"pass training={captured.training} to tp.plan" + (
                "" if captured.training else ", or call the model with gradients enabled"
            )
        return PlanError(
            f"the plan was made for another graph: it is of {self.name!r}, {mine}, {len(self.placement)} ops, "
            f"fingerprint {self.fingerprint}; this one is {captured.graph.name!r}, {other}, "
            f"{len(captured.graph.ops)} ops, fingerprint {captured.graph.fingerprint()}; {hint}"
        )

    def check_topology(self, topology: Topology) -> None:
        """Check that a topology has the structure that the plan was made for (speeds may have been measured anew).

        Raises:
            PlanError: it has another one; says what differs.
        """
        if topology.digest == self.topology.digest:
            return
        raise PlanError(
            f"the plan is for topology {self.topology.name!r} with devices {', '.join(self.topology.device_names)}; "
            f"it was given {topology.name!r} with devices {', '.join(topology.device_names)} (structure "
            f"{self.topology.digest} and {topology.digest}); make a plan for that one"
        )

    def validate(
        self,
        model: Any = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        steps: int = 9,
        rehearse: bool = False,
    ) -> Validation:
        """Run the plan on this machine, and see where its prediction is off: `print(tp.plan(...).validate())`.

        A copy of the model runs, on copies of the arguments: parameters, buffers, gradients, mode and random generators
        stay what they were, and the model is not compiled afterwards. A function is run itself, with whatever it closes
        over. In training, the backward starts from the sum of the means of the outputs.

        Args:
            model: the model that the plan is for; None for the one that `tp.plan` was given.
            args: positional arguments of the call (a single tensor stands for one argument), if a model is given.
            kwargs: keyword arguments.
            steps: how many steps are measured, after some that are not.
            rehearse: run the plan of another machine on CPU devices: what is measured then is this machine's.

        Returns:
            Predicted beside measured: prints as tables.

        Raises:
            PlanError: the plan does not know its model, or is for another model or machine; says what to pass.
        """
        example = Example(model, args, dict(kwargs or {})) if model is not None else self.example
        if example is None:
            raise PlanError(
                f"the plan of {self.name!r} was not made by tp.plan in this process, and so has no model to run; pass "
                "one and its arguments: plan.validate(model, args)"
            )
        if model is None and (args or kwargs):
            raise PlanError("validate was given arguments and no model; pass both, or neither")
        return _validators[0](self, example, steps=steps, rehearse=rehearse)

    def save(self, path: str | Path) -> None:
        """Write it to a JSON file, whole or not at all.

        Raises:
            PlanError: the file cannot be written.
        """
        from torchplace.placement.plan_file import save_plan

        save_plan(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan from a file.

        Raises:
            PlanError: the file cannot be read, is no plan, or was changed after it was saved; says which.
        """
        from torchplace.placement.plan_file import load_plan

        return load_plan(Path(path))

    def to_dict(self) -> dict[str, object]:
        """The plan as JSON-able data, as its file has it."""
        from torchplace.placement.plan_file import plan_data

        return plan_data(self)

    def __repr__(self) -> str:
        return (
            f"<Plan of {self.name!r} on {self.topology.name!r}: {len(self.placement)} ops on "
            f"{len(self.devices_used)} device(s), {self.predicted.step_time:.3g} s predicted, solver {self.solver!r}>"
        )

    def __str__(self) -> str:
        from torchplace.placement.report.tables import plan_text

        return plan_text(self)
