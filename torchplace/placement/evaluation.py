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
    """

    step_time: float
    peak_memory: Mapping[str, int]
    feasible: bool
    reason: str = ""
