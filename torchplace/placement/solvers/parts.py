"""What solvers share that cut a graph into parts of given weights: weights, shares, and what becomes of the parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import monotonic

import numpy as np

from torchplace.placement.coarse.acyclic import acyclic
from torchplace.placement.coarse.bisection import Bisect, bisected
from torchplace.placement.coarse.ideals import Floats, Ints
from torchplace.placement.coarse.quotient import Quotient
from torchplace.placement.coarse.state import State
from torchplace.placement.maxload.alike import alike_devices
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.arrange import arrange
from torchplace.placement.solvers.pack import Limits, within_memory

MIXES = (0.0, 0.5, 1.0)
"""How much bytes count in the weights beside time, one attempt after the other until memory suffices."""
_LEAST = 1e-4
"""A device with a smaller share gets no part."""


def place_parts(problem: Problem, who: str, most: int, bisect: Bisect, time_limit: float) -> dict[str, str]:
    """Cut a problem into one part for each device, and take the better of the parts as they are and made acyclic.

    Parts have weights in proportion to how fast their devices are; where the result does not fit, bytes count in the
    weights, and room in the shares. Parts that are as they were cut may hand values back in the forward pass, which is
    allowed; `acyclic` moves units so that they do not. Devices that are alike exchange their parts where links are the
    less busy for it (`arrange`). Which of the two is better, the coarse model says (`State`).

    Args:
        problem: what is placed.
        who: the solver's name.
        most: units that it is cut in, about.
        bisect: cuts it in two.
        time_limit: seconds after which no further weights are tried.

    Raises:
        InfeasibleError: no placement that fits was found.
    """
    cutter = _Cutter(Quotient.of(problem).shrunk(most), bisect, monotonic() + time_limit)
    return within_memory(problem, who, cutter.best)


@dataclass(frozen=True, eq=False)
class _Cutter:
    """Cuts units into parts."""

    quotient: Quotient
    bisect: Bisect
    until: float

    def best(self, limits: Limits) -> dict[str, str] | None:
        """The better placement of the first weights with which one fits; None where there is none, or no time."""
        room = [limits[device] for device in self.quotient.coarse.devices]
        for mix in MIXES:
            if mix and monotonic() >= self.until:
                break
            states = (State.of(self.quotient.coarse, placed, room) for placed in self._placed(mix, room))
            found = min((state for state in states if state.fits), key=lambda state: state.value, default=None)
            if found is not None:
                return self.quotient.coarse.place(found.placed)
        return None

    def _placed(self, mix: float, limits: Sequence[int]) -> Iterator[list[int]]:
        """The device of each item, by the parts as they were cut, and by acyclic ones."""
        quotient = self.quotient
        room = np.maximum(0, np.array(limits) - np.array(quotient.held))
        weights = (1 - mix) * _part_of_sum(quotient.time.mean(axis=0)) + mix * _part_of_sum(quotient.size)
        shares = ((1 - mix) * self._speeds + mix * _part_of_sum(room)) * (room > 0)
        used = [d for d in np.argsort(-shares, kind="stable")[: len(weights)].tolist() if shares[d] > _LEAST]
        if not used:
            return
        used.sort()
        wanted = _part_of_sum(shares[used]).tolist()
        parts = bisected(quotient.ties, weights, wanted, self.bisect)
        for chosen in (parts, acyclic(quotient, parts, weights, wanted)):
            placed = quotient.placed([used[part] for part in chosen])
            yield arrange(quotient.coarse, placed, self._alike(room.tolist()))

    @cached_property
    def _speeds(self) -> Floats:
        """The share of the work of each device, so that all are busy for as long, with what is pinned there too."""
        total = np.array([self.quotient.time[kind].sum() for kind in self.quotient.coarse.kind_of])
        busy = np.array(self.quotient.busy)
        total = np.maximum(total, max(float(total.max(initial=0.0)), 1e-12) * 1e-6)
        taking = np.ones(len(total), dtype=bool)
        while True:
            end = (1 + (busy / total)[taking].sum()) / (1 / total)[taking].sum()
            if not (late := taking & (busy > end)).any():
                return np.where(taking, (end - busy) / total, 0.0)
            taking &= ~late

    def _alike(self, room: Sequence[int]) -> list[list[int]]:
        devices = self.quotient.coarse.devices
        number = {device: i for i, device in enumerate(devices)}
        busy = dict(zip(devices, self.quotient.busy, strict=True))
        problem = self.quotient.coarse.problem
        sorts = alike_devices(problem, dict(zip(devices, room, strict=True)), busy=busy)
        return [[number[device] for device in names] for names in sorts]


def _part_of_sum(weights: Floats | Ints) -> Floats:
    """Weights that add up to 1; all equal where they are all 0."""
    total = float(weights.sum())
    if total <= 0:
        return np.full(len(weights), 1 / max(1, len(weights)))
    return np.asarray(weights / total, dtype=np.float64)
