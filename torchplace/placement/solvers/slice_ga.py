"""slice-ga: a dynamic program cuts an order of the graph, and a genetic algorithm searches the order."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import ClassVar

import numpy as np

from torchplace.placement.coarse.levels import Unit, attached
from torchplace.placement.coarse.model import MADE, Coarse
from torchplace.placement.coarse.state import State
from torchplace.placement.maxload.chains import Chained, chained
from torchplace.placement.maxload.contiguous import best_split
from torchplace.placement.maxload.crowd import Crowd
from torchplace.placement.maxload.orders import Units
from torchplace.placement.maxload.problem import Floats
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.heft import mean_link
from torchplace.placement.solvers.pack import Limits, base_load, within_memory
from torchplace.placement.solvers.starts import ITEMS

UNITS, STATES = 150, 500
"""Units of a chain, about, and ways to choose numbers of devices of each kind, that a dynamic program looks at."""
BARREN = 40
"""Orders in a row without anything better, after which it ends."""


class SliceGa:
    """Contiguous splits of many topological orders: the best of each order, of the orders that have the best splits.

    SliceGraph: Archer et al., "Practical Performance Guarantees for Pipelined DNN Inference" (ICML 2024): a biased
    random-key genetic algorithm over orders (`maxload.Crowd`), and a dynamic program for each (`best_split`). What an
    order is worth is what its split costs by the objective (`coarse.State`); the split itself is that whose busiest
    device is least busy, transfers included on every other order and left out on the rest.

    Limits: contiguous splits alone, devices in the topology's order; at most some 150 pieces of the forward pass, with
    what stands with them. Uses the seed, and the time that it is given unless 40 orders in a row are no better. Cost:
    near-linear in the ops, then O(150^2 x states) for each order.
    """

    name: ClassVar[str] = "slice-ga"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Search.

        Raises:
            InfeasibleError: no placement that fits was found.
        """
        until = monotonic() + time_limit
        return within_memory(problem, self.name, lambda limits: _search(problem, limits, seed, until))


def _search(problem: Problem, limits: Limits, seed: int, until: float) -> dict[str, str] | None:
    coarse = Coarse.of(problem, ITEMS if len(problem.ops) <= 10 * ITEMS else UNITS)
    units = [unit for unit in attached(coarse) if all(coarse.pinned[item] < 0 for item in unit)]
    if not units:
        return dict(problem.pins)
    slices = _Slices(coarse, units, limits)
    crowd = Crowd(slices.orders.plain(), len(slices.orders.members), seed)
    best: tuple[float, list[int]] | None = None
    barren, tried = 0, 0
    while barren <= BARREN and (monotonic() < until or not tried):
        keys, tried = crowd.draw(), tried + 1
        score, placed = slices.split(keys, tried % 2)
        barren = 0 if crowd.tell(score, keys) else barren + 1
        if placed is not None and (best is None or score < best[0]):
            best = score, placed
    return None if best is None else coarse.place(best[1])


class _Slices:
    """The splits of a problem's orders."""

    def __init__(self, coarse: Coarse, units: Sequence[Unit], limits: Limits) -> None:
        problem = coarse.problem
        base = base_load(problem)
        room = {device: limits[device] - base[device] for device in problem.devices}
        ops = [tuple(op for item in unit for op in coarse.items[item]) for unit in units]
        arcs = _arcs(coarse, units)
        self.coarse, self.units, self.limits = coarse, units, [limits[device] for device in coarse.devices]
        latency, per_byte = mean_link(problem)
        self.stated: list[Chained] = [
            chained(problem, ops, room, link, STATES, arcs) for link in ((0.0, 0.0), (latency, per_byte))
        ]
        self.orders = Units(self.stated[0].problem)

    def split(self, keys: Floats, which: int) -> tuple[float, list[int] | None]:
        """(Score, a device for each item) of an order's best split; infinite and None where none fits."""
        stated, names = self.stated[which]
        load, found = best_split(stated, self.orders.order(keys))
        if not np.isfinite(load):
            return float("inf"), None
        position = {device: number for number, device in enumerate(self.coarse.devices)}
        placed = [max(0, pin) for pin in self.coarse.pinned]
        for unit, device in zip(self.units, found.tolist(), strict=True):
            for item in unit:
                placed[item] = position[names[device]]
        state = State.of(self.coarse, placed, self.limits)
        return (state.score, placed) if state.fits else (float("inf"), None)


def _arcs(coarse: Coarse, units: Sequence[Unit]) -> list[tuple[int, int]]:
    """Which unit's forward items come before which."""
    of_item = {item: number for number, unit in enumerate(units) for item in unit if coarse.part[item] == 0}
    arcs = {
        (of_item[value.source], of_item[target]): None
        for value in coarse.values
        if value.when == MADE and value.source in of_item
        for target in value.targets
        if target in of_item and of_item[target] != of_item[value.source]
    }
    return list(arcs)
