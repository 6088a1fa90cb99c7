"""Lower bounds of the time of one step: its parts run one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from torchplace.placement.bounds.assignment import chained_prices, even_prices
from torchplace.placement.bounds.bound import Bound, strongest, total, weakest
from torchplace.placement.bounds.fleet import Fleet, finite, gathered
from torchplace.placement.bounds.intervals import interval_work
from torchplace.placement.bounds.machine import Machine
from torchplace.placement.bounds.paths import Before, heads, heads_with_transfers, tails
from torchplace.placement.bounds.wires import Wires
from torchplace.placement.bounds.work import Floats, Part, Work
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.topology.host import Host

_CHAINED = 20_000
"""Ops whose linear program has chains, too, at most: each is a look at all edges."""


def least_step(work: Work, machines: list[Machine], cost: ComputeCost, wires: Wires, host: Host) -> Bound:
    """Seconds of one step that no placement can beat.

    Args:
        work: what is to be placed.
        machines: what a part can see; the weakest bound of all holds.
        cost: seconds of an op on a device.
        wires: what transfers cost.
        host: what calls and instructions cost beside the ops.

    Cost: near-linear, for each machine, but for the linear program (`chained_prices`).
    """
    return total(_least_part(part, work, machines, cost, wires, host) for part in work.parts)


def _least_part(part: Part, work: Work, machines: list[Machine], cost: ComputeCost, wires: Wires, host: Host) -> Bound:
    before = [[(op, wires.least(nbytes)) for op, nbytes in ops] for ops in part.before]
    cases = []
    for machine in machines:
        case = _Case(part, machine, cost, work)
        several = strongest(case.bounds(before))
        cases.append(several._replace(seconds=several.seconds + 2 * host.start))
        cases += [case.alone()] if host.start else []
    bound = weakest(cases)
    calls = host.call + host.argument * (len(part.graph.inputs) + len(part.graph.outputs))
    return bound._replace(seconds=bound.seconds + calls + (host.instruction if part.in_segments else 0.0))


class _Case:
    """A part on one machine."""

    def __init__(self, part: Part, machine: Machine, cost: ComputeCost, work: Work) -> None:
        self.part, self.count = part, work.count
        times = part.times(machine, cost)
        whole = Fleet.of(gathered(times, part.items, work.count), machine, work.held, work.fixed)
        self.fleet = replace(whole, numbers=np.array([sort.together for sort in machine]))
        self.times = np.where(np.isfinite(whole.times[:, part.items]), times, np.inf)
        self.fastest = self.times.min(axis=0)

    def alone(self) -> Bound:
        """If one device has everything."""
        room = (self.fleet.held.sum(axis=1)[:, None] <= self.fleet.memory).all(axis=0)
        return Bound(float(np.where(room, self.times.sum(axis=1), np.inf).min()), "one device")

    def bounds(self, before: Before) -> Iterator[Bound]:
        """Bounds that hold for any number of devices, the simple ones first."""
        if not self.part.graph.ops:
            return
        fleet, seconds = self.fleet, self.fastest.tolist()
        yield Bound(_longest(heads(before, seconds), self.fastest), "critical path")
        yield Bound(even_prices(fleet).bound(fleet), "work over capacity")
        yield Bound(float(fleet.fastest.max(initial=0.0)), "longest op")
        late = np.array(heads_with_transfers(before, seconds))
        early = np.array(tails(heads_with_transfers, before, seconds))
        yield Bound(float((late + self.fastest + early).max(initial=0.0)), "critical path with transfers")
        solved = chained_prices(fleet, lambda dealt: self._chain(before, dealt))
        prices, _ = next(solved)
        yield Bound(prices.bound(fleet), "assignment LP")
        yield Bound(interval_work(late, prices.shares(self.times, fleet.numbers), early), "interval work")
        if len(seconds) <= _CHAINED:
            for prices, chains in solved:
                yield Bound(prices.bound(fleet, chains), "assignment LP")

    def _chain(self, before: Before, dealt: Floats) -> Floats:
        """Seconds of items on sorts along the path that is longest as they are dealt out."""
        seconds = (finite(self.times) * dealt[:, self.part.items]).sum(axis=0)
        starts = heads(before, seconds.tolist())
        at = int(np.argmax(np.array(starts) + seconds))
        on_path = np.zeros(len(seconds), dtype=bool)
        while True:
            on_path[at] = True
            if not before[at]:
                return gathered(np.where(on_path, self.times, 0.0), self.part.items, self.count)
            at = max((op for op, _ in before[at]), key=lambda op: starts[op] + seconds[op])


def _longest(starts: Sequence[float], seconds: Floats) -> float:
    return float((np.array(starts) + seconds).max(initial=0.0))
