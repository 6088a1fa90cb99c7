"""How busy devices and links are in steady state, kept up to date as items move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torchplace.placement.coarse.model import Coarse

_POWER = 12
"""Of the norm that stands for the maximum: a move that helps a busy device counts even if another is busier."""


class Loads:
    """Seconds for which each device computes in a step, and each link carries bytes.

    A value goes once to each device that takes it, in each part of the step.

    Attributes:
        placed: the device of each item.
        device: seconds of each device.
        link: seconds of each link that carries something.
    """

    def __init__(self, coarse: Coarse, placed: Sequence[int]) -> None:
        self.coarse, self.placed = coarse, list(placed)
        self.device = [0.0] * len(coarse.devices)
        self.link: dict[int, float] = {}
        self._scale = 1.0 / (sum(map(min, zip(*coarse.time, strict=True))) / len(coarse.devices) or 1.0)
        self._norm = self._highest = 0.0
        self._counts: list[Counter[int]] = []  # of all that is sent: device -> items there that take it
        for item, at in enumerate(placed):
            self._compute(at, coarse.time[coarse.kind_of[at]][item])
        for value in coarse.sent:
            counts = Counter(self.placed[target] for target in value.targets)
            self._counts.append(counts)
            for there in counts:
                self._carry(self.placed[value.source], there, value.nbytes)

    @property
    def period(self) -> float:
        """Seconds of the busiest. Cost: linear in devices + links."""
        return max(max(self.device), max(self.link.values(), default=0.0))

    @property
    def norm(self) -> float:
        """A smooth stand-in for the period: what it is for many busy devices is more than for one."""
        self._highest = max(self._highest, self._norm)
        if self._norm < 1e-4 * self._highest:  # what is left of large numbers after subtraction is not exact
            seconds = (*self.device, *self.link.values())
            self._norm = self._highest = sum((s * self._scale) ** _POWER for s in seconds if s > 0)
        return self._norm

    def move(self, items: Sequence[int], there: int) -> None:
        """Place some items anew. Cost: linear in their values, times the links of a route."""
        for item in items:
            self._move(item, there)

    def _move(self, item: int, there: int) -> None:
        coarse, here = self.coarse, self.placed[item]
        if here == there:
            return
        self._compute(here, -coarse.time[coarse.kind_of[here]][item])
        self._compute(there, coarse.time[coarse.kind_of[there]][item])
        self.placed[item] = there
        for number in coarse.made[item]:
            nbytes = coarse.sent[number].nbytes
            for other in self._counts[number]:
                self._carry(here, other, -nbytes)
                self._carry(there, other, nbytes)
        for number in coarse.taken[item]:
            value, counts = coarse.sent[number], self._counts[number]
            source = self.placed[value.source]
            counts[here] -= 1
            if not counts[here]:
                del counts[here]
                self._carry(source, here, -value.nbytes)
            counts[there] += 1
            if counts[there] == 1:
                self._carry(source, there, value.nbytes)

    def _compute(self, device: int, seconds: float) -> None:
        before = self.device[device]
        self.device[device] = after = before + seconds
        self._norm += (after * self._scale) ** _POWER - (before * self._scale) ** _POWER

    def _carry(self, source: int, target: int, nbytes: int) -> None:
        if source == target:
            return
        for link, per_byte in self.coarse.way(source, target).links:
            before = self.link.get(link, 0.0)
            self.link[link] = after = before + nbytes * per_byte
            self._norm += (after * self._scale) ** _POWER - (before * self._scale) ** _POWER
