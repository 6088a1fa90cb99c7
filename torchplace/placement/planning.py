"""From a captured graph to a plan: the problem is stated, a solver answers, the answer is lowered and simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from torchplace.compiler.capture import Captured
from torchplace.compiler.collector import collector_paused
from torchplace.compiler.graph import Value
from torchplace.compiler.verify import verify
from torchplace.errors import InfeasibleError
from torchplace.placement.bounds import Bound, lower_bound
from torchplace.placement.cost.compute import ComputeCost, Roofline
from torchplace.placement.cost.workspace import WorkspaceCost, estimated
from torchplace.placement.device_map import split_modules
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.follow import follow
from torchplace.placement.hints import Wishes, read_hints
from torchplace.placement.objective import period
from torchplace.placement.optimizer import optimizer_bytes, optimizer_name
from torchplace.placement.pipelining import Pipelining
from torchplace.placement.plan import Plan
from torchplace.placement.predicted import Predicted
from torchplace.placement.problem import Evaluation, Problem
from torchplace.placement.solvers.registry import get_solver
from torchplace.placement.topology.topology import Topology


@dataclass(frozen=True)
class Request:
    """What is asked of the planner.

    Attributes:
        topology: devices and links.
        solver: name of a solver.
        objective: what is minimised, one of `objective.OBJECTIVES`.
        pins: op name, pattern or module path -> device.
        together: for each group, the patterns of what stays on one device.
        forbid: pattern -> devices that its ops must not be on.
        time_limit: seconds for the search.
        seed: of the solver.
        source: what the option `cost` says: where compute costs come from.
        codegen: what runs segments, as the option `codegen` has it.
        cost: the compute costs themselves, which `runtime.pricing` chooses for each graph by `source`.
        workspace: what ops take for themselves while they run; `runtime.pricing` gives what was measured.
        optimizer: whose state counts in training, as the option `optimizer` has it.
        pipelining: how a step goes through the devices; None for calls that are no step.
    """

    topology: Topology
    solver: str = "auto"
    objective: str = "latency"
    pins: Mapping[str, str] = field(default_factory=dict)
    together: Sequence[Sequence[str]] = ()
    forbid: Mapping[str, Sequence[str]] = field(default_factory=dict)
    time_limit: float = 10.0
    seed: int = 0
    source: str = "roofline"
    codegen: str = "eager"
    cost: ComputeCost = field(default_factory=Roofline)
    workspace: WorkspaceCost = estimated
    optimizer: object = None
    pipelining: Pipelining | None = None

    def evaluator(self, captured: Captured, fixed: Mapping[str, str]) -> Evaluator:
        """What tells the cost of a placement of a captured graph, around state that lives somewhere already.

        Raises:
            OptionError: the state of the optimizer is not known.
        """
        beside = optimizer_bytes(self.optimizer, captured)
        return Evaluator(captured, self.topology, self.cost, fixed, self.workspace, beside, self.pipelining)


def make_plan(captured: Captured, request: Request) -> Plan:
    """Search a placement and make the plan.

    Raises:
        InfeasibleError: nothing fits the devices; says which lacks how many bytes.
        OptionError: there is no such solver, or a hint names nothing.
    """
    evaluator = request.evaluator(captured, {})
    begun = perf_counter()
    problem = _problem(captured, request, evaluator)
    solver = get_solver(request.solver)
    placement = solver.solve(problem, seed=request.seed, time_limit=request.time_limit)
    seconds = perf_counter() - begun
    bound = lower_bound(evaluator, request.objective, problem.pins)
    return finish(evaluator, placement, request, solver.title, seconds, bound)


@collector_paused()
def _problem(captured: Captured, request: Request, evaluator: Evaluator) -> Problem:
    return Problem.build(
        captured.graph,
        request.topology.used(request.topology.device_names),
        request.cost,
        training=captured.training,
        objective=request.objective,
        pins=request.pins,
        together=request.together,
        forbid=request.forbid,
        evaluate=lambda placement: evaluation(evaluator, placement, request.objective),
        optimizer=evaluator.optimizer,
        workspace=request.workspace,
        microbatches=1 if request.pipelining is None else request.pipelining.microbatches,
    )


def follow_plan(captured: Captured, request: Request, fixed: Mapping[str, str]) -> Plan:
    """Plan around state that lives somewhere already; nothing is searched.

    Args:
        captured: the graph.
        request: topology, cost and hints. Patterns that match nothing are for graphs that were planned before.
        fixed: input name -> device that it lives on.

    Raises:
        InfeasibleError: a hint clashes with where state lives already, or the graph does not fit.
    """
    evaluator = request.evaluator(captured, fixed)
    begun = perf_counter()
    devices = request.topology.device_names
    wishes = Wishes(request.pins, request.together, request.forbid)
    hints = read_hints(captured.graph, devices, wishes, partial=True)
    placement = follow(captured.graph, fixed, devices, hints)
    return finish(evaluator, placement, request, "follow", perf_counter() - begun)


@collector_paused()
def finish(
    evaluator: Evaluator,
    placement: Mapping[str, str],
    request: Request,
    solver: str,
    seconds: float,
    bound: Bound | None = None,
) -> Plan:
    """Lower, verify and simulate a placement, and write down all that is known of it.

    Args:
        evaluator: of the captured graph.
        placement: op name -> device.
        request: what was asked.
        solver: whose placement it is.
        seconds: that it took.
        bound: what no plan that keeps to the hints can beat; None for what no plan at all can.

    Raises:
        InfeasibleError: the programs need more memory than a device has.
    """
    captured, topology, outcome = evaluator.captured, request.topology, evaluator.outcome(placement)
    programs, timeline = outcome.programs, outcome.timeline
    for program in programs:
        verify(program)
    require_capacity(timeline.peak_memory, topology)
    state = evaluator.owners(placement)
    held = {v.name: v for v in captured.graph.inputs if v.name in state}
    parameters = {held[n].path: d for n, d in state.items() if held[n].kind != "constant"}
    keys = captured.graph.keys()
    bound = lower_bound(evaluator, request.objective) if bound is None else bound
    return Plan(
        name=captured.graph.name,
        broken=captured.broken,
        holds=captured.holds,
        found=captured.found,
        topology=topology,
        placement=dict(placement),
        keys=keys,
        fingerprint=captured.graph.fingerprint(keys),
        parameters=parameters,
        split=split_modules(captured.graph, placement, parameters),
        parameter_bytes=stored_bytes(state, held, topology),
        training=captured.training,
        objective=request.objective,
        solver=solver,
        solve_time=seconds,
        cost=request.cost.name,
        seed=request.seed,
        optimizer=optimizer_name(request.optimizer) if captured.training else "",
        predicted=Predicted.of(timeline, programs, topology, evaluator.memory(programs)),
        lower_bound=bound.seconds,
        bound=bound.source,
        programs=programs,
        timeline=timeline,
        microbatches=programs[0].microbatches,
        schedule=outcome.schedule,
    )


def stored_bytes(state: Mapping[str, str], held: Mapping[str, Value], topology: Topology) -> dict[str, int]:
    """Device -> bytes of the parameters, buffers and constants that it owns, of values by their names."""
    stored = dict.fromkeys(topology.device_names, 0)
    for name, owner in state.items():
        stored[owner] += held[name].nbytes
    return stored


@collector_paused()
def evaluation(evaluator: Evaluator, placement: Mapping[str, str], objective: str = "latency") -> Evaluation:
    """What a solver is told of a placement that it proposes."""
    timeline = evaluator.outcome(placement).timeline
    try:
        require_capacity(timeline.peak_memory, evaluator.topology)
        reason = ""
    except InfeasibleError as error:
        reason = str(error)
    steady = period(timeline.occupied, timeline.link_bytes, evaluator.topology)
    return Evaluation(timeline.duration, timeline.peak_memory, not reason, reason, steady, objective)


def require_capacity(peaks: Mapping[str, int], topology: Topology) -> None:
    """Check peak memory against capacity.

    Raises:
        InfeasibleError: names every device that lacks memory, and how many bytes.
    """
    lacking = [
        f"{d.name} needs {peaks[d.name]} bytes ({peaks[d.name] / 2**30:.2f} GiB), has {d.memory}, "
        f"lacks {peaks[d.name] - d.memory}"
        for d in topology.devices
        if peaks.get(d.name, 0) > d.memory
    ]
    if lacking:
        raise InfeasibleError("the placement does not fit: " + "; ".join(lacking))
