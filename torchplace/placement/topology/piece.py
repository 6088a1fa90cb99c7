"""A piece: what transfers cost from a size on, where one latency and one bandwidth do not tell it for every size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import require_number


@dataclass(frozen=True)
class Piece:
    """From `nbytes` bytes on, a transfer of n bytes takes latency + n / bandwidth seconds.

    Software changes its ways with the size: MPI sends short messages eagerly and asks before it sends long ones; NCCL
    has protocols for low latency and for high bandwidth. Such pieces are fitted in Clauss et al., "Single node on-line
    simulation of MPI applications with SMPI" (IPDPS 2011).

    Attributes:
        nbytes: size of the smallest transfer that it is for.
        latency: seconds. It may be below 0: where the first bytes are quicker than the rest, as through a token bucket
            that is full, the line through the times of large transfers meets the axis there.
        bandwidth: bytes/s that one transfer gets, alone; more than its link's where a buffer takes in what is small.

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    nbytes: int
    latency: float
    bandwidth: float

    def __post_init__(self) -> None:
        if not isinstance(self.nbytes, int) or isinstance(self.nbytes, bool) or self.nbytes < 0:
            raise TopologyError(f"piece: nbytes is {self.nbytes!r}, expected a whole number, 0 or more (bytes)")
        owner = f"piece from {self.nbytes} bytes on"
        require_number(owner, "bandwidth", self.bandwidth, "bytes/s")
        least = -self.nbytes / self.bandwidth
        real = isinstance(self.latency, (int, float)) and not isinstance(self.latency, bool)
        if not real or not math.isfinite(self.latency) or self.latency < least:
            bound = "0 or more" if not self.nbytes else f"{least:.3g} or more, for {self.nbytes} bytes take time"
            raise TopologyError(f"{owner}: latency is {self.latency!r}, expected a number, {bound} (seconds)")
