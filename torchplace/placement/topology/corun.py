"""Co-running: devices that share something slow each other while they compute at the same time."""

from __future__ import annotations

from dataclasses import dataclass

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import require_name, require_number, require_text, require_whole


@dataclass(frozen=True)
class CoRun:
    """Devices that share cores, memory bandwidth or a power budget.

    While k of them compute, each takes longer than alone by the factor

        max(1, demand / capacity) * slowdown[k - 1] + contention * own grip * the others' grip

    where the demand is the sum of what the k running segments ask for (`ComputeCost.demand`), and a segment's grip is
    the share of its time in which it keeps the host busy (0 to 1): small ops from one interpreter hinder each other.

    CPU devices that share cores share `threads`, too: a program that uses k of them gives each an equal part of them
    (`Topology.used`). So one that works alone has all cores, and several do not get into each other's way.

    Attributes:
        name: what they share: "cores", "power"; unique in a topology.
        devices: names of the devices; a device is in one group at most.
        capacity: how much there is of what is shared, in units of demand: cores, for CPU devices; None for no limit.
        slowdown: factors, 1 or more, by the number of devices that compute: of one, of two, and so on; the last
            stands for more.
        contention: how much longer it takes, per device that runs too, where both keep the host busy all the time.
        threads: intra-op threads that members without a number of their own share; None where none are shared.

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    name: str
    devices: tuple[str, ...]
    capacity: float | None = None
    slowdown: tuple[float, ...] = (1.0,)
    contention: float = 0.0
    threads: int | None = None

    def __post_init__(self) -> None:
        require_text("co-run group", "name", self.name)
        object.__setattr__(self, "devices", tuple(self.devices))
        object.__setattr__(self, "slowdown", tuple(self.slowdown))
        owner = f"co-run group {self.name!r}"
        for device in self.devices:
            require_name(f"{owner}: device", device)
        if self.capacity is not None:
            require_number(owner, "capacity", self.capacity, "units of demand")
        require_number(owner, "contention", self.contention, "a factor", zero=True)
        if self.threads is not None:
            require_whole(owner, "threads", self.threads, "intra-op threads")
        if not self.slowdown or any(
            not isinstance(f, (int, float)) or not 1 <= f < float("inf") for f in self.slowdown
        ):
            raise TopologyError(f"{owner}: slowdown is {self.slowdown!r}, expected factors of 1 or more")

    def factor(self, running: int, demand: float, grip: float, others: float) -> float:
        """How much longer than alone a segment takes.

        Args:
            running: devices of the group that compute, it included.
            demand: of all of them.
            grip: its own.
            others: the sum of the others' grips.
        """
        share = 1.0 if self.capacity is None else max(1.0, demand / self.capacity)
        return share * self.slowdown[min(running, len(self.slowdown)) - 1] + self.contention * grip * others
