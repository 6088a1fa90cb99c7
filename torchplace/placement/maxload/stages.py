"""A chain of stages, one on each device: where each begins and ends, and which kind of device it is on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from torchplace.placement.maxload.problem import Floats, Ints


class Stage(NamedTuple):
    """What one device does.

    Attributes:
        kind: of the device.
        number: of the device, among those of its kind.
        start: the state before it.
        end: the state after it.
    """

    kind: int
    number: int
    start: int
    end: int


def best_stages(
    costs: Sequence[Floats], numbers: Sequence[int], combine: Callable[[Floats, Floats], Floats] = np.maximum
) -> tuple[float, list[Stage]]:
    """The least costly chain from the first state to the last one, in which each device is a stage.

    Args:
        costs: for each kind of device, [states, states]: what a stage costs that ends with the first and begins with
            the second; infinite where there is none.
        numbers: devices of each kind. Which kind comes when is free.
        combine: what two stages cost together: the maximum, or the sum.

    Returns:
        The cost, infinite where there is no chain, and the stages from first to last. Cost: O(states^2 x the product of
        the numbers), in numpy.
    """
    size = len(costs[0])
    best: dict[tuple[int, ...], Floats] = {}
    came: dict[tuple[int, ...], list[tuple[int, Ints, Floats]]] = {}
    for used in itertools.product(*(range(number + 1) for number in numbers)):
        came[used] = []
        for kind, number in enumerate(used):
            if number:
                through = combine(best[_less(used, kind)][None, :], costs[kind])
                start = through.argmin(axis=1)
                came[used].append((kind, start, through[np.arange(size), start]))
        origin = np.where(np.arange(size) > 0, np.inf, 0.0)
        best[used] = np.min([value for *_, value in came[used]], axis=0) if came[used] else origin
    used, end, stages = tuple(numbers), size - 1, list[Stage]()
    while any(used):
        kind, start, _ = min(came[used], key=lambda option: option[2][end])
        stages.append(Stage(kind, used[kind] - 1, int(start[end]), end))
        end, used = int(start[end]), _less(used, kind)
    return float(best[tuple(numbers)][size - 1]), stages[::-1]


def _less(used: tuple[int, ...], kind: int) -> tuple[int, ...]:
    return (*used[:kind], used[kind] - 1, *used[kind + 1 :])
