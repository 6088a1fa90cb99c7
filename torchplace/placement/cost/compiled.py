"""Costs of ops that a compiler fuses: what one takes hangs on its segment, which is timed whole."""

from __future__ import annotations

from collections.abc import Iterable

from torchplace.compiler.graph import Op
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.topology.device import Device


class Compiled:
    """What ops take one by one, stretched so that those of a segment add up to what the segment took compiled.

    As long as no segment is known, it is what ops take one by one. Of ops in segments that are not known (another
    placement's), it stays that.

    Args:
        alone: what ops take one by one.

    Attributes:
        name: as that of `alone`.
        stretch: op name -> what its cost is multiplied by.
    """

    def __init__(self, alone: ComputeCost) -> None:
        self.alone, self.name = alone, alone.name
        self.stretch: dict[str, float] = {}

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`."""
        return self.alone.time(op, device) * self.stretch.get(op.name, 1.0)

    def demand(self, op: Op, device: Device) -> float:
        """As of `alone`."""
        return self.alone.demand(op, device)

    def learn(self, ops: Iterable[Op], device: Device, seconds: float) -> None:
        """Let ops on a device take so many seconds together, as one segment."""
        ops = list(ops)
        total = sum(self.alone.time(op, device) for op in ops)
        if total > 0:
            self.stretch.update((op.name, seconds / total) for op in ops)
