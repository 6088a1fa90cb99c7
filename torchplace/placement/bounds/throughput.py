"""Lower bounds of the time from step to step: how long the busiest device or link is busy in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from torchplace.placement.bounds.assignment import even_prices, solved_prices
from torchplace.placement.bounds.bound import Bound, strongest, weakest
from torchplace.placement.bounds.fleet import Fleet, gathered
from torchplace.placement.bounds.machine import Machine
from torchplace.placement.bounds.packing import pigeonhole
from torchplace.placement.bounds.together import Handing
from torchplace.placement.bounds.wires import Wires
from torchplace.placement.bounds.work import Floats, Work
from torchplace.placement.cost.compute import ComputeCost

_FINE = 1e-3  # relative; nearer to each other guesses are not brought
_GUESSES = 24


def least_period(work: Work, machines: list[Machine], cost: ComputeCost, wires: Wires, instruction: float) -> Bound:
    """Seconds from step to step that no placement can beat.

    Each part may use a number of devices of its own, and so see another machine; the weakest bound of all cases holds.

    Args:
        work: what is to be placed.
        machines: what a part can see.
        cost: seconds of an op on a device.
        wires: what transfers cost.
        instruction: seconds that a segment keeps a device beyond its ops.

    Cost: near-linear, for each case, but for the linear program (`solved_prices`).
    """
    seen = [[gathered(part.times(m, cost), part.items, work.count) for m in machines] for part in work.parts]
    handing = Handing(work.flows, work.count)
    found = []
    for chosen in product(range(len(machines)), repeat=len(work.parts)):
        times = [mine[m] for mine, m in zip(seen, chosen, strict=True)]
        fleet = _fleet(work, [machines[m] for m in chosen], np.sum(times, axis=0))
        alone = (_shared(_fleet(work, [machines[m]], t)) for t, m in zip(times, chosen, strict=True))
        found.append(strongest([*_bounds(fleet, handing, wires, instruction), *alone]))
    bound = weakest(found)
    return Bound(bound.seconds + instruction, bound.source) if bound.seconds else bound


def _fleet(work: Work, seen: list[Machine], times: Floats) -> Fleet:
    """All devices that parts use which see these machines."""
    machine = tuple(
        replace(sorts[0], number=min(len(sorts[0].names), sum(sort.number for sort in sorts)))
        for sorts in zip(*seen, strict=True)
    )
    return Fleet.of(times, machine, work.held, work.fixed)


def _shared(fleet: Fleet) -> Bound:
    return Bound(even_prices(fleet).bound(fleet), "work over capacity")


def _bounds(fleet: Fleet, handing: Handing, wires: Wires, instruction: float) -> Iterator[Bound]:
    """Bounds of the busiest device's computing, the simple ones first."""
    simple = [
        _shared(fleet),
        Bound(float(fleet.fastest.max(initial=0.0)), "longest op"),
        Bound(pigeonhole(fleet.fastest, int(fleet.devices.sum())), "pigeonhole"),
        Bound(solved_prices(fleet).bound(fleet), "assignment LP"),
    ]
    yield from simple
    low = strongest(simple).seconds
    yield Bound(_raised(low, fleet, handing, wires, instruction), "values too large to send")


def _raised(low: float, fleet: Fleet, handing: Handing, wires: Wires, instruction: float) -> float:
    """The largest time of a device that was refuted, by bisection, from one that is known to be no more than the least.

    A guess of the largest load is refuted as in Archer et al., "Practical performance guarantees for pipelined DNN
    inference" (ICML 2024): what cannot be apart within the guess is one item, and those are too large for the devices.
    """

    def refuted(guess: float) -> bool:
        return _too_much(fleet.joined(handing.joined(wires, guess + instruction)).barred(guess), guess)

    high = float(fleet.fastest.sum())
    guess = low * (1 + _FINE)
    for _ in range(_GUESSES):
        if guess >= high or not refuted(guess):
            high = guess
        else:
            low = guess
        if high <= low * (1 + _FINE):
            break
        guess = (low + high) / 2
    return low


def _too_much(fleet: Fleet, guess: float) -> bool:
    """Whether devices cannot have all items if none of them may compute for longer than a guess."""
    if not np.isfinite(fleet.fastest).all() or pigeonhole(fleet.fastest, int(fleet.devices.sum())) > guess:
        return True
    return even_prices(fleet).bound(fleet) > guess or solved_prices(fleet).bound(fleet) > guess
