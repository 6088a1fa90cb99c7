"""linear-dp: the contiguous split whose busiest device, transfers included, is the least busy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from torchplace.placement.maxload.chains import chained
from torchplace.placement.maxload.contiguous import best_split
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.contiguous import Chain
from torchplace.placement.solvers.heft import mean_link
from torchplace.placement.solvers.pack import Limits, within_memory

MAX_UNITS, MAX_STATES = 500, 2000
"""Longer chains are cut into so many pieces of equal time; so many ways to choose numbers of devices are looked at."""


class LinearDp:
    """The optimal contiguous split of the graph in program order, for the steady state of a pipeline.

    Narayanan et al., "PipeDream: Generalized Pipeline Parallelism for DNN Training" (SOSP 2019), section 3.1, without
    replicas: a dynamic program over the intervals of the order. The load of a device is the time of its ops, and of the
    values that it takes and hands over. The ops of the backward pass go with those of the forward pass that they belong
    to. Of devices that differ, which kind comes when is searched, too.

    Limits: any two devices count as equally far; chains of more than 500 units are cut into 500 pieces first; of many
    devices only so many of each kind are looked at as leave 2,000 states. Has no seed and no search. Cost: linear in
    ops + edges; beyond that O(500^2 x states).
    """

    name: ClassVar[str] = "linear-dp"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Split the chain.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        chain = Chain.of(problem)
        units = _pieces(problem, chain.units)
        link = mean_link(problem)
        return within_memory(problem, self.name, lambda limits: _split(chain, units, limits, link))


def _pieces(problem: Problem, units: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """At most `MAX_UNITS` runs of units, of about equal time each."""
    if len(units) <= MAX_UNITS:
        return list(units)
    durations = problem.durations(problem.devices[0])
    times = np.array([sum(durations[op] for op in unit) for unit in units])
    times += max(times.sum(), 1e-12) / len(units) * 1e-3  # units of no time count a little
    piece = np.minimum(MAX_UNITS - 1, (times.cumsum() / times.sum() * MAX_UNITS).astype(int))
    found: dict[int, list[str]] = {}
    for number, unit in zip(piece.tolist(), units, strict=True):
        found.setdefault(number, []).extend(unit)
    return [tuple(ops) for ops in found.values()]


def _split(
    chain: Chain, units: Sequence[tuple[str, ...]], limits: Limits, link: tuple[float, float]
) -> dict[str, str] | None:
    problem = chain.problem
    if not units:
        return dict(problem.pins)
    room = {device: limits[device] - chain.base[device] for device in problem.devices}
    stated, names = chained(problem, units, room, link, MAX_STATES)
    load, placed = best_split(stated, [(i,) for i in range(len(units))])
    if not np.isfinite(load):
        return None
    placement = dict(problem.pins)
    for unit, device in zip(units, placed.tolist(), strict=True):
        placement.update(dict.fromkeys(unit, names[device]))
    return placement
