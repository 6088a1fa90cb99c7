"""Contiguous splits of a chain: what the balanced and the memory solvers have in common.

The chain is the forward pass in program order. Each of its units is an op with all that stands with it: ops that
write its state, and the ops of the backward pass that are attached to it. A split gives the first units to the
first device, the next to the second, and so on, in the topology's order; a device may get none. What is pinned is
not in the chain: it is where it is, and counts as time and bytes that its device has already.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from torchplace.placement.attach import attach
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.pack import Limits, base_load, bytes_of, free_groups

Weights = Mapping[str, float]
"""Op name -> what a split balances: seconds or bytes."""


@dataclass(frozen=True)
class Chain:
    """The units of a problem that can be split, and what is on the devices before.

    Attributes:
        problem: the problem.
        units: ops that a split keeps together, in the order of the forward ops that they stand with.
    """

    problem: Problem
    units: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, problem: Problem) -> Chain:
        """The chain of a problem. Cost: near-linear."""
        anchor = attach(problem.graph)
        index = {op: i for i, op in enumerate(problem.ops)}
        units: dict[int, list[str]] = {}
        for group in free_groups(problem):
            units.setdefault(min(index[anchor[op]] for op in group), []).extend(group)
        return cls(problem, tuple(tuple(units[i]) for i in sorted(units)))

    @cached_property
    def base(self) -> Mapping[str, int]:
        """Device name -> bytes that are on it already."""
        return base_load(self.problem)

    @cached_property
    def bytes_before(self) -> Sequence[int]:
        """Bytes of the first i units, for i from 0 to their number."""
        return list(accumulate((bytes_of(self.problem, unit) for unit in self.units), initial=0))

    def place(self, ends: Sequence[int]) -> dict[str, str]:
        """The placement of a split: `ends[k]` is the number of units that the first k + 1 devices have."""
        placement, start = dict(self.problem.pins), 0
        for device, end in zip(self.problem.devices, ends, strict=True):
            placement.update((op, device) for unit in self.units[start:end] for op in unit)
            start = end
        return placement

    def fill(self, limits: Limits, budget: Budget | None = None) -> list[int] | None:
        """Give each device in turn as many units as its limits allow, and its budget.

        No split within the same limits gets further with the same devices: to begin later never means to end
        earlier. So it fails only where every contiguous split does.

        Returns:
            The ends of the devices' pieces; None where units are left over. Cost: O(d log n).
        """
        ends, start = [], 0
        for device in self.problem.devices:
            room = limits[device] - self.base[device]
            end = bisect_right(self.bytes_before, self.bytes_before[start] + max(room, 0), lo=start) - 1
            if budget is not None:
                end = min(end, budget.end(device, start))
            ends.append(end)
            start = end
        return ends if start == len(self.units) else None


class Budget:
    """A bound on what every device's piece weighs, what is on the device already included."""

    def __init__(self, chain: Chain, weights: Callable[[str], Weights]) -> None:
        """Weigh the units of `chain`; `weights` says what ops weigh on a device, one mapping for those alike."""
        self.bound = 0.0
        self.chain = chain
        self.before: dict[str, Sequence[float]] = {}
        sums: dict[int, Sequence[float]] = {}
        for device in chain.problem.devices:
            weigh = weights(device)
            if id(weigh) not in sums:
                each = (sum(weigh[op] for op in unit) for unit in chain.units)
                sums[id(weigh)] = list(accumulate(each, initial=0))
            self.before[device] = sums[id(weigh)]
        self.base = dict.fromkeys(chain.problem.devices, 0.0)
        for op, device in chain.problem.pins.items():
            self.base[device] += weights(device)[op]

    def end(self, device: str, start: int) -> int:
        """How many units the devices up to this one can have, if this one begins at unit `start`."""
        before = self.before[device]
        return max(start, bisect_right(before, before[start] + self.bound - self.base[device], lo=start) - 1)

    def heaviest(self, ends: Sequence[int]) -> float:
        """What the heaviest piece of a split weighs."""
        start, most = 0, 0.0
        for device, end in zip(self.chain.problem.devices, ends, strict=True):
            most = max(most, self.base[device] + self.before[device][end] - self.before[device][start])
            start = end
        return most


def split_evenly(chain: Chain, weights: Callable[[str], Weights], limits: Limits) -> list[int] | None:
    """The contiguous split whose heaviest piece is the lightest, within limits of memory.

    A bound is guessed, and `Chain.fill` says whether a split stays below it; the guesses halve the interval
    between what failed and the best split found, until nothing is between them (a parametric search; Pinar and
    Aykanat, "Fast optimal load balancing algorithms for 1D partitioning", JPDC 64, 2004, compare it with others).

    Returns:
        The ends of the devices' pieces; None where no contiguous split is within the limits. Optimal, but for
        the rounding of sums. Cost: O(n x kinds of device + d log n log(1 / float precision)).
    """
    budget = Budget(chain, weights)
    best = chain.fill(limits)
    if best is None:
        return None
    low, high = max(budget.base.values()), budget.heaviest(best)
    while low < (guess := (low + high) / 2) < high:
        budget.bound = guess
        ends = chain.fill(limits, budget)
        if ends is None:
            low = guess
        else:
            best, high = ends, min(guess, budget.heaviest(ends))
    return best
