"""Everything on one device: what every other placement is compared with."""

from __future__ import annotations

from typing import ClassVar

from torchplace.placement.infeasible import nothing_fits
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.blame import in_force
from torchplace.placement.solvers.keep_off import keep_off
from torchplace.placement.solvers.pack import Limits, base_load, bytes_of, free_groups, in_order, reject_impossible


class Single:
    """All ops on the device that runs them soonest; pinned ops stay where they are pinned.

    Ops that must not be there go to another (`keep_off`).

    Of the devices that everything fits on, the one with the least total time is taken, the earlier of equals;
    devices that also have room for what comes and goes are asked first. Has no seed and no search. Cost: linear
    in ops x kinds of device, plus devices squared where memory is short.

    Limits: fails where a model needs the memory of two devices; no other solver is asked to help.
    """

    name: ClassVar[str] = "single"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Place all ops on one device.

        Raises:
            InfeasibleError: what stays on a device fits none of them.
        """
        base = base_load(problem)
        free = sum(bytes_of(problem, group) for group in free_groups(problem))
        candidates = _soonest_first(problem)
        for limits in (problem.limits(1.0), problem.limits(0.0)):
            for device in candidates:
                load = {**base, device: base[device] + free}
                if not problem.forbidden and any(load[d] > limits[d] for d in load):
                    continue
                placement = _all_on(problem, device, limits)
                if problem.fits(placement, limits):
                    return in_order(problem, placement)
        reject_impossible(problem)
        roomiest = max(candidates, key=lambda device: problem.capacity[device] - base[device])
        load = problem.resident(_all_on(problem, roomiest, problem.capacity))
        raise nothing_fits(load, problem.capacity, self.name, in_force(problem))


def _all_on(problem: Problem, device: str, limits: Limits) -> dict[str, str]:
    return keep_off(problem, {**dict.fromkeys(problem.ops, device), **problem.pins}, limits)


def _soonest_first(problem: Problem) -> list[str]:
    """The devices by the total time of all ops, the soonest first; equals in the topology's order."""
    totals: dict[int, float] = {}  # by the column, which devices that are alike share
    for device in problem.devices:
        column = problem.durations(device)
        if id(column) not in totals:
            totals[id(column)] = sum(column.values())
    return sorted(problem.devices, key=lambda device: totals[id(problem.durations(device))])
