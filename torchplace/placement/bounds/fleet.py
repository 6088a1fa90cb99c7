"""Sorts of devices, and what items ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from torchplace.placement.bounds.machine import Machine
from torchplace.placement.bounds.work import Floats, Ints


@dataclass(frozen=True)
class Fleet:
    """Sorts of devices, and what items ask of them.

    Attributes:
        times: seconds of each item (column) on each sort (row); infinite where it cannot be.
        numbers: devices of each sort, or devices' worth of work that they do at a time.
        devices: how many there are of each sort.
        memory: bytes of a device of each sort.
        held: bytes that each item (column) brings at several moments (rows).
    """

    times: Floats
    numbers: Floats
    devices: Floats
    memory: Floats
    held: Floats

    @classmethod
    def of(cls, times: Floats, machine: Machine, held: Floats, fixed: Mapping[int, str]) -> Fleet:
        """The devices of a machine, and items.

        Args:
            times: seconds of each item (column) on each sort (row).
            machine: the sorts.
            held: bytes that each item (column) brings at several moments (rows).
            fixed: item -> the device that it is on, where that is known.

        Cost: linear.
        """
        barred = np.zeros(times.shape, dtype=bool)
        for item, name in fixed.items():
            barred[:, item] = [name not in sort.names for sort in machine]
        devices = np.array([sort.number for sort in machine], dtype=float)
        memory = np.array([sort.memory for sort in machine], dtype=float)
        return cls(np.where(barred, np.inf, times), devices, devices, memory, held).barred()

    def barred(self, most: float = np.inf) -> Fleet:
        """The same, with no item where it has no room, or takes more than some seconds."""
        full = (self.held[:, None, :] > self.memory[:, None]).any(axis=0)
        return replace(self, times=np.where(full | (self.times > most), np.inf, self.times))

    def joined(self, number: Ints) -> Fleet:
        """The same, with items of one number as one."""
        count = 1 + int(number.max(initial=-1))
        return replace(self, times=gathered(self.times, number, count), held=gathered(self.held, number, count))

    @property
    def fastest(self) -> Floats:
        """Seconds of each item where it is fastest."""
        return np.asarray(self.times.min(axis=0))


def gathered(rows: Floats, number: Ints, count: int) -> Floats:
    """The sums of the columns that have the same number."""
    return np.array([np.bincount(number, row, count) for row in rows]).reshape(len(rows), count)


def finite(times: Floats) -> Floats:
    """Nothing in place of what is infinite."""
    return np.where(np.isfinite(times), times, 0.0)
