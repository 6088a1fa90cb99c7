"""Equal bytes on every device: what Accelerate's `device_map="auto"` does."""

from __future__ import annotations

from typing import ClassVar

from torchplace.placement.problem import Problem
from torchplace.placement.solvers.contiguous import Chain, split_evenly
from torchplace.placement.solvers.pack import Limits, within_memory


class MemoryBalanced:
    """The forward pass in program order, cut into one piece for each device so that the fullest is least full.

    After Hugging Face Accelerate's `get_balanced_memory` ("Handling big models for inference", section on device
    maps), which lowers each device's limit to about an equal share of the bytes and then fills them in turn;
    here the share is the smallest that works, and ops are placed where Accelerate places modules. Bytes are all
    that stays: in training gradients and saved activations too, which Accelerate does not count. Ops of the
    backward pass go with the forward op that they come from (`attach`); ops that bring no bytes with those
    before them.

    Limits: knows no time. Where no cut fits in memory the answer is that of `pack`. Has no seed and no search.
    Cost: linear in ops.
    """

    name: ClassVar[str] = "memory-balanced"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Cut the forward pass by bytes.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        chain = Chain.of(problem)

        def attempt(limits: Limits) -> dict[str, str] | None:
            ends = split_evenly(chain, lambda _: problem.op_bytes, limits)
            return None if ends is None else chain.place(ends)

        return within_memory(problem, self.name, attempt)
