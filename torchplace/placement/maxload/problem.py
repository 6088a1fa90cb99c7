"""The max-load problem: items on devices, so that the busiest device of a full pipeline is as little busy as can be.

The statement is that of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators" (NeurIPS
2020), section 3: the load of a device is the time of its items, plus the time of every value that it takes from
elsewhere, once, and of every value that it makes and somebody elsewhere takes, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Kind(NamedTuple):
    """A sort of device.

    Attributes:
        name: devices are called by it and their number: `fpga0`.
        number: how many there are.
        capacity: bytes of each.
    """

    name: str
    number: int
    capacity: float


class Handed(NamedTuple):
    """A value that an item makes and others take.

    Attributes:
        source: who makes it.
        targets: the others, each once, in order.
        give: for each kind of device, time that a device is busy that made it, if it is taken elsewhere.
        take: for each kind, time that another device is busy that takes it.
    """

    source: int
    targets: tuple[int, ...]
    give: tuple[float, ...]
    take: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class LoadProblem:
    """What is to be placed, and on what. Items are what must stay together; they are known by their numbers.

    Attributes:
        name: of the problem.
        kinds: sorts of devices; those of a kind are alike.
        time: [kinds, items], infinite where an item cannot run.
        size: [items], bytes.
        values: what items hand to others.
        arcs: (source, target) items of the forward pass, and those whose order stands for it: what contiguity is about.
    """

    name: str
    kinds: tuple[Kind, ...]
    time: Floats
    size: Floats
    values: tuple[Handed, ...]
    arcs: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """How many items."""
        return int(self.size.shape[0])

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices, kind by kind."""
        return tuple(f"{kind.name}{i}" for kind in self.kinds for i in range(kind.number))

    @cached_property
    def kind_of(self) -> Ints:
        """[devices]: the number of each device's kind."""
        return np.repeat(np.arange(len(self.kinds)), [kind.number for kind in self.kinds])

    @cached_property
    def capacity(self) -> Floats:
        """[devices], bytes."""
        return np.array([self.kinds[k].capacity for k in self.kind_of])

    @cached_property
    def pairs(self) -> tuple[Ints, Ints]:
        """(Value, target item) of every use of a value by another item."""
        uses = [(v, target) for v, value in enumerate(self.values) for target in value.targets]
        found = np.array(uses, dtype=np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    @cached_property
    def sources(self) -> Ints:
        """[values]: who makes each."""
        return np.array([value.source for value in self.values], dtype=np.int64)

    @cached_property
    def give(self) -> Floats:
        """[kinds, values]."""
        return _table([value.give for value in self.values], len(self.kinds))

    @cached_property
    def take(self) -> Floats:
        """[kinds, values]."""
        return _table([value.take for value in self.values], len(self.kinds))

    @cached_property
    def touching(self) -> tuple[tuple[int, ...], ...]:
        """For each item, the values that it makes or takes."""
        found: list[list[int]] = [[] for _ in range(self.count)]
        for v, value in enumerate(self.values):
            for item in (value.source, *value.targets):
                found[item].append(v)
        return tuple(map(tuple, found))

    def loads(self, placed: Ints) -> Floats:
        """Time that each device is busy. Cost: linear in items + uses of values, in numpy.

        Args:
            placed: [items], the number of each item's device.
        """
        devices = len(self.devices)
        loads = sums(placed, self.time[self.kind_of[placed], np.arange(self.count)], devices)
        value, target = self.pairs
        if not len(value):
            return loads
        made, taken = placed[self.sources[value]], placed[target]
        away = made != taken
        once = np.unique(value[away] * devices + taken[away])
        value, device = once // devices, once % devices
        loads += sums(device, self.take[self.kind_of[device], value], devices)
        given = np.unique(value)
        device = placed[self.sources[given]]
        return loads + sums(device, self.give[self.kind_of[device], given], devices)

    def held(self, placed: Ints) -> Floats:
        """Bytes on each device."""
        return sums(placed, self.size, len(self.devices))

    def max_load(self, placed: Ints) -> float:
        """Time that the busiest device is busy; infinite where an item cannot run or memory does not suffice."""
        if np.any(self.held(placed) > self.capacity):
            return float("inf")
        return float(self.loads(placed).max(initial=0.0))


def _table(rows: Sequence[tuple[float, ...]], kinds: int) -> Floats:
    return np.array(rows, dtype=float).reshape(-1, kinds).T


def sums(places: Ints, weights: Floats, count: int) -> Floats:
    """The weights of each place from 0 to `count`, added up."""
    return np.bincount(places, weights=weights, minlength=count).astype(np.float64)
