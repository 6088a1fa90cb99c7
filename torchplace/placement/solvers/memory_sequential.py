"""Fill a device, then the next: what Accelerate's `device_map="sequential"` does."""

from __future__ import annotations

from typing import ClassVar

from torchplace.placement.problem import Problem
from torchplace.placement.solvers.contiguous import Chain
from torchplace.placement.solvers.pack import Limits, within_memory


class MemorySequential:
    """The forward pass in program order; each device gets ops until the next would not fit, then the next device.

    After Hugging Face Accelerate's `infer_auto_device_map` ("Handling big models for inference", section on
    device maps), for ops where that works on modules. Bytes are all that stays: in training gradients and saved
    activations too, which Accelerate does not count. Ops of the backward pass go with the forward op that they
    come from (`attach`).

    Limits: knows no time; a model that fits one device uses one. Where devices filled in this order do not hold
    everything, the answer is that of `pack`. Has no seed and no search. Cost: linear in ops.
    """

    name: ClassVar[str] = "memory-sequential"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Fill the devices one after the other.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        chain = Chain.of(problem)

        def attempt(limits: Limits) -> dict[str, str] | None:
            ends = chain.fill(limits)
            return None if ends is None else chain.place(ends)

        return within_memory(problem, self.name, attempt)
