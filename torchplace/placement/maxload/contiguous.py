"""The best contiguous split of a linear order: a dynamic program over its intervals.

Where the order is a topological one, no path leaves a device and comes back. PipeDream (Narayanan et al., SOSP 2019,
section 3.1) splits a chain of layers like this; SliceGraph (Archer et al. 2024) an order that is searched.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from torchplace.placement.maxload.problem import Floats, Ints, LoadProblem, sums
from torchplace.placement.maxload.stages import best_stages

Order = Sequence[Sequence[int]]
"""Units of items that stay together, one after the other."""


def best_split(problem: LoadProblem, order: Order) -> tuple[float, Ints]:
    """The split of an order into one interval for each device whose largest load is least.

    Args:
        problem: what to place.
        order: every item once.

    Returns:
        The largest load, infinite where no split fits, and each item's device. Optimal for this order; which kind of
        device comes when is free. Cost: O(units^2 x the product of the kinds' counts), in numpy; 8 bytes x units^2 for
        each kind and number of devices.
    """
    costs = [np.ascontiguousarray(loads.T) for loads in interval_loads(problem, order)]
    load, stages = best_stages(costs, [kind.number for kind in problem.kinds])
    placed = np.zeros(problem.count, dtype=np.int64)
    first = np.cumsum([0, *(kind.number for kind in problem.kinds)])
    for stage in stages:
        for unit in order[stage.start : stage.end]:
            placed[list(unit)] = first[stage.kind] + stage.number
    return load, placed


def interval_loads(problem: LoadProblem, order: Order) -> Floats:
    """[kinds, units + 1, units + 1]: the load of a device with the units from i (included) to j (not), at [kind, i, j].

    Infinite where memory does not suffice, where an item cannot run, and for i > j.
    """
    units = len(order)
    position = np.zeros(problem.count, dtype=np.int64)
    for at, unit in enumerate(order):
        position[list(unit)] = at + 1
    loads = _transfers(problem, position, units)
    able = np.isfinite(problem.time)
    time, barred = np.where(able, problem.time, 0.0), (~able).astype(float)
    before, bars = (np.stack([sums(position, row, units + 1) for row in rows]).cumsum(1) for rows in (time, barred))
    held = sums(position, problem.size, units + 1).cumsum()
    loads += before[:, None, :] - before[:, :, None]
    grown = held[None, :] - held[:, None]
    for k, kind in enumerate(problem.kinds):
        loads[k][(grown > kind.capacity) | (bars[k][None, :] > bars[k][:, None])] = np.inf
    loads[:, np.tri(units + 1, k=-1, dtype=bool)] = np.inf
    return loads


def _transfers(problem: LoadProblem, position: Ints, units: int) -> Floats:
    """Time of transfers for each interval: each value adds to some rectangles of (start, end), by their corners.

    Positions are from 1 on; the interval (i, j] has position p if i < p <= j.
    """
    corners: list[tuple[int, int, int, int, bool]] = []  # value, starts below, ends from, ends below, whether it adds
    taken: list[bool] = []

    def add(value: int, below: int, begin: int, end: int, adds: bool, take: bool) -> None:
        if begin < end:
            corners.append((value, below, begin, end, adds))
            taken.append(take)

    for v, value in enumerate(problem.values):
        source = int(position[value.source])
        others = sorted({int(position[t]) for t in value.targets} - {source})
        if not others:
            continue
        add(v, source, source, units + 1, True, False)
        add(v, min(source, others[0]), max(source, others[-1]), units + 1, False, False)
        for at, until in itertools.pairwise([*others, units + 1]):
            add(v, at, at, until, True, True)
            add(v, min(at, source), max(at, source), until, False, True)
    found = np.zeros((len(problem.kinds), units + 2, units + 2))
    if corners:
        table = np.array(corners)
        costs = np.where(np.array(taken), problem.take[:, table[:, 0]], problem.give[:, table[:, 0]])
        costs = np.where(table[:, 4] > 0, costs, -costs)
        for k in range(len(problem.kinds)):
            np.add.at(found[k], (table[:, 1] - 1, table[:, 2]), costs[k])
            np.add.at(found[k], (table[:, 1] - 1, table[:, 3]), -costs[k])
    summed: Floats = found[:, ::-1].cumsum(1)[:, ::-1].cumsum(2)[:, : units + 1, : units + 1]
    return summed
