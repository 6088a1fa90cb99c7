"""What a placement costs, as a solver is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """What a placement would cost.

    Attributes:
        step_time: seconds of one step.
        peak_memory: device name -> bytes that are live on it at most.
        feasible: no device needs more than it has.
        reason: why it is not feasible: which device lacks how many bytes; "" when it is.
        period: seconds from step to step in steady state (`objective.period`).
        objective: which of the two is to be small.
    """

    step_time: float
    peak_memory: Mapping[str, int]
    feasible: bool
    reason: str = ""
    period: float = 0.0
    objective: str = "latency"

    @property
    def value(self) -> float:
        """Seconds that are to be few: the period where the objective is throughput, else those of one step."""
        return self.period if self.objective == "throughput" else self.step_time
