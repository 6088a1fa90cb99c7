"""Co-running: devices that share something slow each other while they compute at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import require_name, require_number, require_text


@dataclass(frozen=True)
class CoRun:
    """Devices that share cores, memory bandwidth or a power budget.

    While k of them compute, each runs at `min(1, capacity / demand) / slowdown[k - 1]` of its speed alone, where
    the demand is the sum of what the k running segments ask for (`ComputeCost.demand`; 1 where a cost model does
    not say).

    Attributes:
        name: what they share: "cores", "power"; unique in a topology.
        devices: names of the devices; a device is in one group at most.
        capacity: how much there is of what is shared, in units of demand: cores, for CPU devices; None for no limit.
        slowdown: factors, 1 or more, by the number of devices that compute: of one, of two, and so on; the last
            stands for more.

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    name: str
    devices: tuple[str, ...]
    capacity: float | None = None
    slowdown: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        require_text("co-run group", "name", self.name)
        object.__setattr__(self, "devices", tuple(self.devices))
        object.__setattr__(self, "slowdown", tuple(self.slowdown))
        owner = f"co-run group {self.name!r}"
        for device in self.devices:
            require_name(f"{owner}: device", device)
        if self.capacity is not None:
            require_number(owner, "capacity", self.capacity, "units of demand")
        if not self.slowdown or any(
            not isinstance(f, (int, float)) or not 1 <= f < float("inf") for f in self.slowdown
        ):
            raise TopologyError(f"{owner}: slowdown is {self.slowdown!r}, expected factors of 1 or more")

    def rate(self, running: int, demand: float) -> float:
        """Speed of each of `running` devices, as a share of its speed alone, while together they ask for `demand`."""
        share = 1.0 if self.capacity is None or demand <= self.capacity else self.capacity / demand
        return share / self.slowdown[min(running, len(self.slowdown)) - 1]
