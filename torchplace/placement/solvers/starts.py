"""Where searches begin."""

from __future__ import annotations

from collections.abc import Iterator

from torchplace.placement.coarse.model import Coarse
from torchplace.placement.coarse.state import State
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.contiguous import Chain, split_evenly
from torchplace.placement.solvers.pack import Limits, pack

ITEMS, ITEMS_A_DEVICE, MOST_ITEMS = 400, 4, 6000


def contracted(problem: Problem, share: float = 1.0) -> Coarse:
    """A problem in as many items as searches can deal with, or a share of them: some 400, more for many devices."""
    most = min(MOST_ITEMS, max(ITEMS, ITEMS_A_DEVICE * len(problem.devices)))
    return Coarse.of(problem, max(1, int(share * most)))


def start(problem: Problem, limits: Limits, share: float = 1.0) -> State | None:
    """The best of some plain placements within limits of memory, as a state to search on from; None if none fits.

    They are the contiguous splits that give the busiest device the least to do, over all devices and over the first 1,
    2, 4... of them, and a packing by memory. Cost: near-linear in the ops, times the number of placements.
    """
    coarse = contracted(problem, share)
    room = [limits[device] for device in coarse.devices]
    states = (State.of(coarse, coarse.placed(placement), room) for placement in _plain(problem, limits))
    return min((state for state in states if state.fits), key=lambda state: state.score, default=None)


def _plain(problem: Problem, limits: Limits) -> Iterator[dict[str, str]]:
    chain = Chain.of(problem)
    count = len(problem.devices)
    for used in (*(1 << i for i in range(count.bit_length()) if 1 << i < count), count):
        few = {device: limits[device] if i < used else 0 for i, device in enumerate(problem.devices)}
        ends = split_evenly(chain, problem.durations, few)
        if ends is not None:
            yield chain.place(ends)
    yield pack(problem, limits)
