"""The max-load problem of a chain: pieces of a graph that is to be placed, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from torchplace.placement.maxload.alike import alike_devices
from torchplace.placement.maxload.problem import Handed, Kind, LoadProblem
from torchplace.placement.problem import Problem

Unit = Sequence[str]
"""Names of ops that stay together."""


class Chained(NamedTuple):
    """A max-load problem, and the names of its devices in the problem that it was made of."""

    problem: LoadProblem
    devices: tuple[str, ...]


def chained(
    problem: Problem,
    units: Sequence[Unit],
    room: Mapping[str, int],
    link: tuple[float, float],
    states: int,
    arcs: Sequence[tuple[int, int]] | None = None,
) -> Chained:
    """State as max-load how units may share the devices.

    Args:
        problem: whose ops they are.
        units: in order; ops that are in none are left out, and so is what they hand over.
        room: device name -> bytes that may be put there.
        link: seconds of a transfer of no bytes, and for each byte: any two devices count as equally far.
        states: ways to choose a number of devices of each kind, at most. Where there are more, devices with more room
            than others that are as fast count as if they had as little; then, kinds with the most devices lose some.
        arcs: from unit to unit, which must come before which; by default, each before the next.

    Cost: linear in ops + edges, times the kinds of devices.
    """
    alike = alike_devices(problem, room, states)
    kinds = tuple(Kind(names[0], len(names), max(0, min(room[d] for d in names))) for names in alike)
    columns = [problem.durations(names[0]) for names in alike]
    time = np.array([[sum(column[op] for op in unit) for unit in units] for column in columns])
    size = np.array([sum(problem.op_bytes[op] for op in unit) for unit in units], dtype=float)
    values = tuple(_values(problem, units, link, len(kinds)))
    arcs = [(i, i + 1) for i in range(len(units) - 1)] if arcs is None else arcs
    stated = LoadProblem(problem.graph.name, kinds, time.reshape(len(kinds), -1), size, values, tuple(arcs))
    return Chained(stated, tuple(name for names in alike for name in names))


def _values(problem: Problem, units: Sequence[Unit], link: tuple[float, float], kinds: int) -> list[Handed]:
    unit_of = {op: number for number, unit in enumerate(units) for op in unit}
    targets: dict[str, set[int]] = {}
    for edge in problem.edges:
        if edge.target in unit_of:
            for value in edge.values:
                targets.setdefault(value, set()).add(unit_of[edge.target])
    latency, per_byte = link
    found = []
    for op in problem.graph.ops:
        for made in op.outputs if op.name in unit_of else ():
            others = tuple(sorted(targets.get(made.name, set()) - {unit_of[op.name]}))
            if others:
                seconds = (latency + per_byte * made.nbytes,) * kinds
                found.append(Handed(unit_of[op.name], others, seconds, seconds))
    return found
