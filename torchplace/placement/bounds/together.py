"""Items that must share a device if no link may be busy for longer than a guess."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from torchplace.placement.bounds.wires import Wires
from torchplace.placement.bounds.work import Floats, Flow, Ints

_ROUNDS = 8
_ROUNDING = 1e-12


class Handing:
    """What items hand to each other in a step, as arrays: one entry for each value and each item that takes it.

    Args:
        flows: the values.
        count: number of items.
    """

    def __init__(self, flows: Sequence[Flow], count: int) -> None:
        self.count = count
        lengths = np.array([len(flow.targets) for flow in flows], dtype=np.int64)
        self._value = np.repeat(np.arange(len(flows)), lengths)
        self._source = np.repeat(np.array([flow.source for flow in flows], dtype=np.int64), lengths)
        self._target = np.array([target for flow in flows for target in flow.targets], dtype=np.int64)
        self._nbytes = np.repeat(np.array([flow.nbytes for flow in flows], dtype=float), lengths)

    def joined(self, wires: Wires, seconds: float) -> Ints:
        """Number of the cluster of each item: each is on one device, if no link is busy for longer than some seconds.

        What two clusters hand to each other in one direction goes over the same links, if they are apart. So they are
        not, if that takes any links too long; what becomes one cluster then hands on more.

        Args:
            wires: the links.
            seconds: the guess.

        Cost: O(E log E) for E entries, a few times.
        """
        number = np.arange(self.count, dtype=np.int64)
        for _ in range(_ROUNDS):
            pairs, nbytes = self._between(number)
            tied = pairs[:, nbytes / wires.widest > seconds * (1 + _ROUNDING)]
            if not tied.size:
                break
            count = int(number.max()) + 1
            links = csr_array((np.ones(tied.shape[1]), (tied[0], tied[1])), shape=(count, count))
            number = np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)[number]
        return number

    def _between(self, number: Ints) -> tuple[Ints, Floats]:
        """Pairs of clusters (columns), and the bytes that one hands to the other: a value goes to a cluster once."""
        ends = np.array([self._value, number[self._source], number[self._target]])
        first = np.unique(ends[:, ends[1] != ends[2]], axis=1, return_index=True)
        nbytes = self._nbytes[ends[1] != ends[2]][first[1]]
        pairs, place = np.unique(first[0][1:], axis=1, return_inverse=True)
        return pairs.astype(np.int64), np.bincount(np.ravel(place), nbytes, pairs.shape[1]).astype(float)
