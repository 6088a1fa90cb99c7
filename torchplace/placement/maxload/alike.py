"""Devices that are alike: a solver need not tell them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torchplace.placement.problem import Problem


def alike_devices(
    problem: Problem, room: Mapping[str, int], states: float = math.inf, busy: Mapping[str, float] | None = None
) -> list[list[str]]:
    """Devices, kind by kind: as fast, with as much room, and as busy already.

    Args:
        problem: whose devices they are.
        room: device name -> bytes that may be put there.
        states: ways to choose a number of devices of each kind, at most; by default any. Where there are more, room
            and what is there already make no kinds; then, kinds with the most devices lose some.
        busy: device name -> seconds for which it is busy already; by default none is.
    """
    kinds: list[list[str]] = []
    for exactly in (True, False):
        found: dict[tuple[int, int, float], list[str]] = {}
        for device in problem.devices:
            key = (id(problem.durations(device)), room[device] * exactly, (busy or {}).get(device, 0.0) * exactly)
            found.setdefault(key, []).append(device)
        kinds = list(found.values())
        if _states(kinds) <= states:
            return kinds
    while _states(kinds) > states:
        largest = max(kinds, key=len)
        del largest[len(largest) // 2 :]
        kinds = [names for names in kinds if names]
    return kinds


def _states(kinds: Sequence[Sequence[str]]) -> float:
    return math.prod(len(names) + 1 for names in kinds)
