"""What a search moves as one: large pieces first, then smaller ones, single items at the end."""

from __future__ import annotations

from collections.abc import Sequence

from torchplace.placement.attach import attach
from torchplace.placement.coarse.model import Coarse, joined

Unit = tuple[int, ...]
"""Items that move together."""


def levels(coarse: Coarse, chunks: int) -> list[list[Unit]]:
    """Partitions of the items that are free to move, from coarse to fine; each refines the one before.

    The coarsest are runs of the forward pass, about so many of equal time, with the items after it that belong to them
    (`attach`); then what belongs to one item of the forward pass; then what must be together. Levels that are equal are
    left out.

    Cost: near-linear in ops + items.
    """
    chain = attached(coarse)
    found: list[list[Unit]] = []
    for units in (_runs(coarse, chain, chunks), chain, coarse.units):
        free = [unit for unit in units if coarse.pinned[unit[0]] < 0 and not any(coarse.pinned[i] >= 0 for i in unit)]
        if free and (not found or len(free) > len(found[-1])):
            found.append(free)
    return found


def attached(coarse: Coarse) -> tuple[Unit, ...]:
    """Items of the forward pass, each with what stands with it and must be with it; in the order of their first."""
    anchor = attach(coarse.problem.graph)
    durations = coarse.problem.durations(coarse.devices[0])
    pairs = []
    for item, ops in enumerate(coarse.items):
        if coarse.part[item]:
            heaviest = max(ops, key=lambda op: durations[op])
            target = coarse.item_of[anchor[heaviest]]
            if coarse.pinned[target] == coarse.pinned[item]:
                pairs.append((target, item))
    return joined(len(coarse.items), [*pairs, *coarse.units])


def _runs(coarse: Coarse, units: Sequence[Unit], count: int) -> list[Unit]:
    """Neighbouring units joined to runs of about equal time."""
    seconds = [sum(coarse.time[0][item] for item in unit) for unit in units]
    share, runs, weight, pin = sum(seconds) / max(1, count), list[list[int]](), 0.0, -2
    for unit, time in zip(units, seconds, strict=True):
        pinned = max(coarse.pinned[item] for item in unit)
        if runs and weight + time / 2 <= share and pinned == pin:
            runs[-1] += unit
            weight += time
        else:
            runs.append(list(unit))
            weight, pin = time, pinned
    return [tuple(sorted(run)) for run in runs]
