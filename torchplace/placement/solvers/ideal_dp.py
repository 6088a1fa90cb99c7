"""ideal-dp: of all ways to cut the graph into contiguous pieces, the one whose busiest device is the least busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt, prod
from typing import ClassVar

import numpy as np

from torchplace.placement.coarse.ideals import Floats, Ideals
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.coarse.quotient import Quotient
from torchplace.placement.maxload.alike import alike_devices
from torchplace.placement.maxload.stages import Stage, best_stages
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.arrange import arrange
from torchplace.placement.solvers.heft import mean_link
from torchplace.placement.solvers.pack import Limits, within_memory
from torchplace.placement.solvers.schedule import MAX_CANDIDATES

MIN_IDEALS, MAX_IDEALS = 50, 2000
"""Sets that are looked at: as many as `MAX_WORK` allows, between these."""
KEPT = 100
"""Units that a graph is not contracted below."""
MAX_STATES, MAX_WORK = 500, 10**8
"""Ways to choose a number of devices of each kind; these, times the kinds, times the square of the sets."""
_NO_MORE = 1 + 1e-9


class IdealDp:
    """The optimal contiguous split of the graph itself, for the steady state of a pipeline.

    Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators" (NeurIPS 2020), throughput: a
    dynamic program over the downward-closed sets (ideals) of the forward pass. A device gets the difference of two of
    them, one within the other, so that values of the forward pass flow from device to device, never back; unlike
    `linear-dp` it may begin with one branch and leave another one for later. Ops of the backward pass go with those of
    the forward pass that they belong to (`attach`).

    The load of a device, of which the largest is to be least: where the objective is throughput, the time for which it
    computes, or its port sends, or its port receives, whichever is longest, for these go on at the same time
    (`objective.period`); a port is as fast as the links to the two devices that are nearest. Else, as in the paper, the
    sum of the three, over links as they are on average. Of the splits with the least largest load one that hands over
    the fewest bytes is taken; then devices that are alike exchange their pieces where links are the less busy for it
    (`arrange`).

    Limits: any two devices count as equally far until then; a value counts once where it leaves, even if it goes to
    several devices; what goes to pinned ops and comes from them counts nothing. Exact where there are at most 2,000
    ideals, fewer with many devices (with all alike, from 25 on) or kinds of them. Else the graph is contracted, as far
    as 100 units; then a cut may leave for later only what is near in the program. What takes next to no time is joined
    with a neighbour in any case. Of many devices only so many of each kind are looked at as leave 500 ways to choose
    their numbers. Has no seed and no search. Cost: near-linear in the ops; beyond that
    O(ideals^2 x (values of a unit + ways to choose x kinds)), in numpy.
    """

    name: ClassVar[str] = "ideal-dp"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Cut the graph.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        cuts = _Cuts.of(Quotient.of(problem))
        return within_memory(problem, self.name, cuts.best)


@dataclass(frozen=True, eq=False)
class _Cuts:
    """All that a device could get, and what that would cost it."""

    quotient: Quotient
    ideals: Ideals

    @classmethod
    def of(cls, quotient: Quotient) -> _Cuts:
        """The cuts of a graph that is contracted until there are not too many."""
        sorts = _sorts(quotient, quotient.coarse.problem.limits(1.0))
        ways = prod(len(devices) + 1 for devices in sorts) * len(sorts)
        most = min(MAX_IDEALS, max(MIN_IDEALS, isqrt(MAX_WORK // ways)))
        units = max(1, (most - 1) // 2)  # runs of an order may be twice as many as were asked for
        quotient = quotient.shrunk(units)
        while (ideals := Ideals.of(len(quotient.units), quotient.arcs, most)) is None and units > KEPT:
            units = max(KEPT, units * 2 // 3)
            quotient = quotient.shrunk(units)
        width = len(quotient.units)
        while ideals is None:
            width //= 2
            ideals = Ideals.of(len(quotient.units), [*quotient.arcs, *_band(quotient, width)], most)
        return cls(quotient, ideals)

    @cached_property
    def crossing(self) -> tuple[Floats, Floats]:
        """Bytes out of each difference of two ideals, and bytes into it."""
        return self.ideals.crossing(self.quotient.values)

    @cached_property
    def moving(self) -> Floats:
        """Seconds for which each difference keeps the links of its device busy."""
        out, into = self.crossing
        if self._steady:
            return np.maximum(out, into) * near_link(self.quotient.coarse)
        return (out + into) * mean_link(self.quotient.coarse.problem)[1]

    @property
    def _steady(self) -> bool:
        return self.quotient.coarse.problem.steady

    def best(self, limits: Limits) -> dict[str, str] | None:
        """The placement by the best cuts within limits of memory; None where there is none."""
        sorts = _sorts(self.quotient, limits)
        costs = [self._loads(devices, limits) for devices in sorts]
        numbers = [len(devices) for devices in sorts]
        load, _ = best_stages(costs, numbers)
        if not np.isfinite(load):
            return None
        _, into = self.crossing
        fewest = [np.where(loads <= load * _NO_MORE, into, np.inf) for loads in costs]
        _, stages = best_stages(fewest, numbers, np.add)
        coarse = self.quotient.coarse
        return coarse.place(arrange(coarse, self._placed(stages, sorts), sorts))

    def _loads(self, devices: Sequence[int], limits: Limits) -> Floats:
        """[ideals, ideals]: seconds for which one of these devices is busy with the first without the second."""
        quotient, ideals = self.quotient, self.ideals
        time = ideals.sums(quotient.time[quotient.coarse.kind_of[devices[0]]])
        time += max(quotient.busy[device] for device in devices)
        load = np.maximum(time, self.moving) if self._steady else time + self.moving
        room = min(_room(quotient, limits)[device] for device in devices)
        size = ideals.sums(quotient.size.astype(float))
        return np.where(ideals.within & (size <= max(0, room)), load, np.inf)

    def _placed(self, stages: Sequence[Stage], sorts: Sequence[Sequence[int]]) -> list[int]:
        placed = np.zeros(self.ideals.count, dtype=np.int64)
        member = self.ideals.member
        for stage in stages:
            placed[member[:, stage.end] & ~member[:, stage.start]] = sorts[stage.kind][stage.number]
        return self.quotient.placed(placed.tolist())


def _band(quotient: Quotient, width: int) -> list[tuple[int, int]]:
    """Arcs that let no unit wait for one that comes so much later in the program: with 1, a chain is left."""
    return [(unit, unit + width) for unit in range(len(quotient.units) - width)]


def _sorts(quotient: Quotient, limits: Limits) -> list[list[int]]:
    """The devices, those that are alike together."""
    devices = quotient.coarse.devices
    room = dict(zip(devices, _room(quotient, limits), strict=True))
    busy = dict(zip(devices, quotient.busy, strict=True))
    number = {device: n for n, device in enumerate(devices)}
    sorts = alike_devices(quotient.coarse.problem, room, MAX_STATES, busy)
    return [[number[device] for device in names] for names in sorts]


def _room(quotient: Quotient, limits: Limits) -> list[int]:
    return [limits[device] - held for device, held in zip(quotient.coarse.devices, quotient.held, strict=True)]


def near_link(coarse: Coarse) -> float:
    """Seconds per byte to the two devices that are nearest, on average over up to 32 devices and both ways."""
    devices = range(len(coarse.devices))
    sample = devices[:: -(-len(devices) // MAX_CANDIDATES)]
    nearest = [sorted(coarse.way(d, other).per_byte for other in devices if other != d)[:2] for d in sample]
    found = [seconds for near in nearest for seconds in near]
    return sum(found) / max(1, len(found))
