"""HEFT: ops by their distance to the end, each where it would finish first."""

from __future__ import annotations

from typing import ClassVar

from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, within_memory
from torchplace.placement.solvers.schedule import MAX_CANDIDATES, Schedule


class Heft:
    """Heterogeneous earliest finish time: list scheduling with insertion, for devices of different speeds.

    Topcuoglu, Hariri and Wu, "Performance-effective and low-complexity task scheduling for heterogeneous
    computing" (IEEE TPDS 13, 2002), section 4.1. Ops are taken by upward rank (mean time to the end of the
    graph, mean transfers included), each is placed where it finishes first, in an idle gap if one is long enough.

    Beyond the paper: a group stays with its first op; devices without room for its bytes are passed over; state
    must come from its owner, where that is placed already; and what the gradient of a parameter takes to come
    home counts as time until it is finished.

    Limits: greedy, one op at a time; transfers do not compete for links; of more than 32 devices it compares
    those that hold the op's inputs and the 32 that are free first (`MAX_CANDIDATES`), of more than 64 gaps the
    first 64 (`Timeslots`); means of transfers are over 32 devices at most. Where it finds no room, the answer is
    that of `pack`. Has no seed and no search. Cost: O((ops + edges) x min(devices, 32)).
    """

    name: ClassVar[str] = "heft"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Schedule the ops, and keep where they went.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        ranks = upward_ranks(problem)
        index = {op: i for i, op in enumerate(problem.ops)}
        # Where ranks are equal (views take no time), program order is the topological one.
        order = sorted(problem.ops, key=lambda op: (-ranks[op], index[op]))
        return within_memory(problem, self.name, lambda limits: _in_order(problem, limits, order))


def _in_order(problem: Problem, limits: Limits, order: list[str]) -> dict[str, str] | None:
    """Place the ops in an order, each where it finishes first; None where one finds no room."""
    schedule = Schedule(problem, limits)
    for name in order:
        op = problem.by_name[name]
        choice = schedule.best(op, finish=True)
        if choice is None:
            return None
        schedule.settle(op, choice)
    return schedule.placement


def upward_ranks(problem: Problem) -> dict[str, float]:
    """Op name -> mean seconds from its start to the end of the graph, along the longest way.

    Never less for an op than for one that depends on it. Cost: linear in ops x kinds of device + edges.
    """
    latency, per_byte = mean_link(problem)
    time = _mean_durations(problem)
    rest: dict[str, float] = {}  # op -> the longest way from its end
    ranks: dict[str, float] = {}
    for op in reversed(problem.graph.ops):
        ranks[op.name] = time[op.name] + rest.get(op.name, 0.0)
        for value in op.inputs:
            if value.producer is not None:
                way = latency + per_byte * value.nbytes + ranks[op.name]
                rest[value.producer.name] = max(way, rest.get(value.producer.name, 0.0))
    return ranks


def mean_link(problem: Problem) -> tuple[float, float]:
    """Mean latency (seconds) and mean seconds per byte, over the ordered pairs of up to 32 devices."""
    step = -(-len(problem.devices) // MAX_CANDIDATES)
    sample = problem.devices[::step]
    pairs = [problem.links.parameters(s, t) for s in sample for t in sample if s != t]
    if not pairs:
        return 0.0, 0.0
    return sum(a for a, _ in pairs) / len(pairs), sum(1.0 / b for _, b in pairs) / len(pairs)


def _mean_durations(problem: Problem) -> dict[str, float]:
    counts: dict[int, int] = {}
    columns = {}
    for device in problem.devices:
        column = problem.durations(device)
        columns[id(column)] = column
        counts[id(column)] = counts.get(id(column), 0) + 1
    total = len(problem.devices)
    return {op: sum(columns[c][op] * n for c, n in counts.items()) / total for op in problem.ops}
