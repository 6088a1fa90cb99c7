"""What a placement costs, by estimate: list scheduling without contention, for when nobody simulates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torchplace.compiler.graph import Op, Value
from torchplace.compiler.order import list_schedule
from torchplace.placement.evaluation import Evaluation
from torchplace.placement.infeasible import shortages
from torchplace.placement.objective import period

if TYPE_CHECKING:
    from torchplace.placement.problem import Problem


def estimate(problem: Problem, placement: Mapping[str, str]) -> Evaluation:
    """Schedule the ops as `lower` orders them, every transfer as if it had its links to itself.

    Limits: transfers of state and of what returns home are left out; memory is what stays (`Problem.resident`),
    without what comes and goes. Cost: O(E log V).
    """

    def duration(op: Op, device: str) -> float:
        return problem.duration(op.name, device)

    def delay(value: Value, source: str, target: str) -> float:
        return problem.links.time(source, target, value.nbytes)

    start = list_schedule(problem.graph, placement, duration, delay)
    ends = (time + problem.duration(op, placement[op]) for op, time in start.items())
    resident = problem.resident(placement)
    lacking = shortages(resident, problem.capacity)
    return Evaluation(
        max(ends, default=0.0), resident, not lacking, lacking, steady(problem, placement), problem.objective
    )


def steady(problem: Problem, placement: Mapping[str, str]) -> float:
    """Seconds from step to step if steps follow each other without a break; each value goes once to each device.

    Cost: linear in the edges, times the links of a route.
    """
    busy = dict.fromkeys(problem.devices, 0.0)
    for op, device in placement.items():
        busy[device] += problem.duration(op, device)
    sent = {
        (name, placement[edge.source], placement[edge.target])
        for edge in problem.edges
        if placement[edge.source] != placement[edge.target]
        for name in edge.values
    }
    crossed: dict[str, int] = {}
    values = problem.graph.values
    for name, source, target in sent:
        for link in problem.topology.route(source, target).links:
            crossed[link.name] = crossed.get(link.name, 0) + values[name].nbytes
    return period(busy, crossed, problem.topology)
