"""Contiguous pieces of equal time: what pipelines are cut into by hand."""

from __future__ import annotations

from typing import ClassVar

from torchplace.placement.problem import Problem
from torchplace.placement.solvers.contiguous import Chain, split_evenly
from torchplace.placement.solvers.pack import Limits, within_memory


class Balanced:
    """The forward pass in program order, cut into one piece for each device so that the busiest is least busy.

    Pieces go to the devices in the topology's order, each as fast as it is; a piece may be empty. Ops of the
    backward pass go with the forward op that they come from (`attach`), and count in its piece. Among all such
    cuts that fit in memory the answer is optimal (but for the rounding of sums); as Huang et al., "GPipe"
    (NeurIPS 2019) ask for, who balance the pieces by estimated cost.

    Limits: transfers count nothing, neither in time nor in what is cut; one order is cut, the program's. Where
    no cut fits in memory the answer is that of `pack`, which knows no time.

    Has no seed and no search. Cost: linear in ops x kinds of device.
    """

    name: ClassVar[str] = "balanced"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Cut the forward pass.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        chain = Chain.of(problem)

        def attempt(limits: Limits) -> dict[str, str] | None:
            ends = split_evenly(chain, problem.durations, limits)
            return None if ends is None else chain.place(ends)

        return within_memory(problem, self.name, attempt)
