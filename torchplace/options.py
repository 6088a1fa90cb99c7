"""The options of `compile`, `plan` and `compare`: the same names everywhere, checked in one place."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torchplace.errors import OptionError
from torchplace.placement.objective import OBJECTIVES
from torchplace.placement.optimizer import KINDS, check_optimizer
from torchplace.placement.pipelining import AUTO, CHOICES, Pipelining
from torchplace.placement.plan import Plan
from torchplace.placement.planning import Request
from torchplace.placement.solvers.registry import get_solver
from torchplace.placement.topology.local import pair_threads
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.calibrate import calibrated_figures
from torchplace.runtime.distributed import FAULT_TIMEOUT
from torchplace.runtime.pricing import COSTS
from torchplace.runtime.profile import cpu_figures

CODEGENS = ("eager", "inductor")
"""What runs a segment: its ops one by one, or what TorchInductor makes of them."""


@dataclass(frozen=True)
class Options:
    """What a user may ask for.

    Attributes:
        topology: a `Topology`, a preset's name, `local:3`, a file, or None for this machine.
        solver: name of a solver.
        objective: `latency`: seconds of one call; `throughput`: from call to call, where they follow without a break;
            `step`: seconds of a step of several micro-batches. None for `step` where it is one, else `latency`.
        cost: source of compute costs: `auto`, `roofline`, `measured` or `fitted` (`runtime.pricing.priced`).
        training: plan the backward too (`tp.plan`; a compiled model is told by its calls).
        loss_fn: of (output, target): what is compiled is a training step, forward, loss and backward in one.
        microbatches: into which a step's inputs are split, at most; more than one makes a step of any model.
        batch_dims: the dim of every input that counts the rows of a batch, or that by the argument's name (`target` and
            `output` are such names, too); None for what all micro-batches share.
        reduction: how losses of micro-batches make that of the batch: `mean`, `sum`, or a function that gives the
            weight of a micro-batch, of its target. None for what `loss_fn` says (torch's losses have a `reduction`), or
            the mean.
        schedule: in which order devices do what there is to do: `auto`, `gpipe`, `1f1b`, `interleaved`, `zero-bubble`
            or `synthesised`.
        pins: op or module pattern -> device.
        together: groups that are each on one device, whichever: a pattern, or a sequence of patterns, for each.
        forbid: op or module pattern -> device, or devices, that what it matches must not be on.
        optimizer: whose state counts in the memory of training: a kind (`adamw`, `sgd`, `momentum`... see
            `placement.optimizer.KINDS`), a `torch.optim` class, or an instance. Of a step, an instance is also run,
            on all devices at once, behind each step; and gradients are dropped then.
        codegen: `eager`: ops run one by one; `inductor`: TorchInductor compiles each segment. Of costs,
            `measured` alone knows what that makes of ops.
        dynamic: dynamic shapes, as `torch.compile` takes it.
        fullgraph: a graph break is an error.
        plan: a plan to run, or its file, instead of searching one.
        rehearse: run the plan of another machine on CPU devices.
        time_limit: seconds of search; None for 10 in `tp.plan` and 1 in a first call.
        weights: where the values of parameters on the meta device are: a `.safetensors` file, a checkpoint folder of
            Hugging Face, or one that `torch.distributed.checkpoint` wrote. None for as their modules begin.
        fault_timeout: seconds after which a rank of a job that does not go on counts as hanging.
        seed: of the solver.
    """

    topology: Topology | str | Path | None = None
    solver: str = "auto"
    objective: str | None = None
    cost: str = "auto"
    training: bool = False
    loss_fn: Any = None
    microbatches: int = 1
    batch_dims: Any = 0
    reduction: Any = None
    schedule: str = AUTO
    pins: Mapping[str, str] = field(default_factory=dict)
    together: Sequence[str | Sequence[str]] = ()
    forbid: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    optimizer: Any = None
    codegen: str = "eager"
    dynamic: bool | None = None
    fullgraph: bool = False
    plan: Plan | str | Path | None = None
    rehearse: bool = False
    time_limit: float | None = None
    weights: str | Path | None = None
    fault_timeout: float = FAULT_TIMEOUT
    seed: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Check options by name and value.

        Raises:
            OptionError: names the option, its value and what was expected.
        """
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise OptionError(f"unknown option {name!r}{hint} Expected one of {', '.join(known)}")
        options = cls(**given)
        options._check()
        return options

    def _check(self) -> None:
        _one_of("objective", self.objective or OBJECTIVES[0], OBJECTIVES)
        _one_of("codegen", self.codegen, CODEGENS)
        _one_of("schedule", self.schedule, CHOICES)
        self._check_step()
        _one_of("cost", self.cost, COSTS)
        get_solver(self.solver)
        check_optimizer(self.optimizer)
        if self.time_limit is not None and not self.time_limit > 0:
            raise OptionError(f"time_limit is {self.time_limit!r}; expected seconds above 0, or None")
        if not self.fault_timeout > 0:
            raise OptionError(f"fault_timeout is {self.fault_timeout!r}; expected seconds above 0")
        if not isinstance(self.pins, Mapping):
            raise OptionError(f"pins is {self.pins!r}; expected a mapping from an op or module pattern to a device")
        _check_together(self.together)
        _check_forbid(self.forbid)

    def _check_step(self) -> None:
        if not isinstance(self.microbatches, int) or isinstance(self.microbatches, bool) or self.microbatches < 1:
            raise OptionError(f"microbatches is {self.microbatches!r}; expected a whole number of 1 or more")
        if self.loss_fn is not None and not callable(self.loss_fn):
            raise OptionError(f"loss_fn is {self.loss_fn!r}; expected a function of (output, target)")
        if not (self.reduction is None or self.reduction in ("mean", "sum") or callable(self.reduction)):
            raise OptionError(
                f"reduction is {self.reduction!r}; expected 'mean', 'sum', or a function of a micro-batch's target"
            )
        dims = self.batch_dims.values() if isinstance(self.batch_dims, Mapping) else [self.batch_dims]
        if not all(dim is None or (isinstance(dim, int) and not isinstance(dim, bool) and dim >= 0) for dim in dims):
            raise OptionError(
                f"batch_dims is {self.batch_dims!r}; expected a dim of 0 or more, or a mapping from arguments to dims"
            )

    @property
    def step(self) -> bool:
        """Whether a step is asked for, and not calls that the caller's own code surrounds."""
        return self.loss_fn is not None or self.microbatches > 1

    @property
    def capture(self) -> dict[str, Any]:
        """The options that say what is captured, and what runs it, by name."""
        names = ["dynamic", "fullgraph", "codegen"]
        names += ["loss_fn", "microbatches", "batch_dims", "reduction", "schedule"] if self.step else []
        return {name: getattr(self, name) for name in names}

    def loaded_plan(self) -> Plan | None:
        """The plan to run, read from its file if a file was given."""
        return Plan.load(self.plan) if isinstance(self.plan, (str, Path)) else self.plan

    def request(self, default_limit: float, plan: Plan | None = None) -> Request:
        """What the planner is asked.

        Args:
            default_limit: seconds of search where the user gave no limit.
            plan: a plan to run: its topology is the one, unless another is given.

        Raises:
            PlanError: the plan is for another topology than the one given.
            TopologyError: there is no such topology.
        """
        topology = resolve_topology(
            plan.topology if plan is not None and self.topology is None else self.topology,
            calibrate=self.cost in ("measured", "fitted"),
        )
        if plan is not None:
            plan.check_topology(topology)
        return Request(
            topology,
            solver=self.solver,
            objective=self.objective or ("step" if self.step else "latency"),
            pins=dict(self.pins),
            together=[_listed(group) for group in self.together],
            forbid={pattern: _listed(devices) for pattern, devices in self.forbid.items()},
            time_limit=self.time_limit or default_limit,
            seed=self.seed,
            source=self.cost,
            codegen=self.codegen,
            optimizer=self.optimizer or _known_kind(plan),
            pipelining=Pipelining(self.microbatches, self.schedule) if self.step else None,
        )


def resolve_topology(topology: Topology | str | Path | None, calibrate: bool = False) -> Topology:
    """The topology that a user names; this machine's CPU devices get measured speeds, once for each machine.

    Args:
        topology: as the option has it.
        calibrate: measure what the host adds, too (some seconds), where that is not known yet; of a `Topology` that is
            this machine's as it was before, the same with the measured figures is given.
    """
    if topology is None or (isinstance(topology, str) and topology.split(":")[0] == "local"):
        cpu_figures(pair_threads())
    found = Topology.resolve(topology)
    here = functools.partial(Topology.local, len(found.devices), found.devices[0].threads)
    if not calibrate or found != here():
        return found
    calibrated_figures()
    return here()


def _check_together(together: object) -> None:
    """Check that it is a sequence of groups: a lone pattern would be read letter by letter."""
    groups = together if isinstance(together, Sequence) and not isinstance(together, str) else [None]
    if not all(_is_names(group) for group in groups):
        raise OptionError(
            f"together is {together!r}; expected a list of groups, each a pattern or a list of patterns, such as "
            "[['wte', 'lm_head'], 'transformer.h.3']"
        )


def _check_forbid(forbid: object) -> None:
    if not isinstance(forbid, Mapping) or not all(_is_names(devices) for devices in forbid.values()):
        raise OptionError(
            f"forbid is {forbid!r}; expected a mapping from an op or module pattern to a device or a list of them"
        )


def _is_names(value: object) -> bool:
    """Whether it is a name, or a sequence of one or more."""
    return (isinstance(value, str) and bool(value)) or (
        isinstance(value, Sequence) and bool(value) and all(isinstance(name, str) and name for name in value)
    )


def _listed(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _known_kind(plan: Plan | None) -> str | None:
    """The kind of optimizer that a plan was made for; None where only its class is known."""
    return plan.optimizer if plan is not None and plan.optimizer in KINDS else None


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"{option} is {value!r}; this version knows {', '.join(map(repr, known))}")
