"""m-SCT: the op that can start first, where it can; but a device waits for the favourite child of what it ran last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torchplace.compiler.graph import Op, Value
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.earliest import earliest_first
from torchplace.placement.solvers.favourites import favourites
from torchplace.placement.solvers.heft import mean_link
from torchplace.placement.solvers.pack import Limits, within_memory
from torchplace.placement.solvers.schedule import Choice, Schedule

LP_SHARE = 0.5
"""Of the time, for the linear program."""


class MemorySct:
    """Small communication times, for devices with little memory: list scheduling that spares the worst transfers.

    Jeon et al., "Baechi: Fast Device Placement of Machine Learning Graphs" (SoCC 2020), section 3.2, after Hanen and
    Munier 1995. A linear program chooses a favourite child for each op (`favourites`). Then ops are placed as by
    `m-etf`; but a device whose last op has a favourite child that is ready, and can start nowhere sooner, is kept for
    it: other ops do not hold it up, unless they are urgent, that is, could start on any device by then. Of ops that
    could start as soon, favourite children are first.

    Limits: as `m-etf`. The theory asks that no transfer takes longer than any op, which ops on GPUs are far from; what
    is gained on `m-etf` is as often lost. Where the time is over before the linear program is solved, the favourites
    are those with the largest transfers. Has no seed. Cost: about twice that of `m-etf`, and a linear program about
    2,000 items at most.
    """

    name: ClassVar[str] = "m-sct"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Schedule the ops, and keep where they went.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        child = favourites(problem, LP_SHARE * time_limit)
        preferred = set(child.values())

        def attempt(limits: Limits) -> dict[str, str] | None:
            return earliest_first(_Keeping(problem, limits, child), preferred)

        return within_memory(problem, self.name, attempt)


class _Keeping(Schedule):
    """A schedule in which devices are kept for favourite children."""

    def __init__(self, problem: Problem, limits: Limits, child: Mapping[str, str]) -> None:
        super().__init__(problem, limits)
        self.child = child
        self.latency, self.per_byte = mean_link(problem)
        self.kept: dict[str, Op] = {}  # device -> for whom

    def _start(self, op: Op, inputs: list[tuple[Value, str, float]], device: str) -> float:
        start, child = super()._start(op, inputs, device), self.kept.get(device)
        if child is None or child is op or not self._is_ready(child):
            return start
        taken = list(self._inputs(child))
        wanted = super()._start(child, taken, device)
        after = wanted + self.problem.duration(child.name, device)
        duration = self.problem.duration(op.name, device)
        if start + duration <= wanted or start >= after or self._is_urgent(inputs, start):
            return start
        if any(
            super(_Keeping, self)._start(child, taken, other) < wanted
            for other in self._candidates(child.name, taken, 0)
        ):
            return start
        return self.slots[device].earliest(after, duration)

    def _is_ready(self, op: Op) -> bool:
        return all(value.producer is None or value.name in self.ready for value in op.inputs)

    def _is_urgent(self, inputs: list[tuple[Value, str, float]], time: float) -> bool:
        """Whether all that an op takes could be on any device by then."""
        return all(ready + self.latency + self.per_byte * value.nbytes <= time for value, _, ready in inputs)

    def settle(self, op: Op, choice: Choice) -> None:
        """Place an op, and keep its device for its favourite child."""
        super().settle(op, choice)
        self.kept = {device: kept for device, kept in self.kept.items() if kept is not op}
        child = self.child.get(op.name)
        if child is not None and self.placement.get(child, choice.device) == choice.device:
            self.kept[choice.device] = self.problem.by_name[child]
