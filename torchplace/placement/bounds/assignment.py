"""Items dealt out to sorts of devices by a linear program: what fast devices have no time or room for, slow ones do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from torchplace.placement.bounds.fleet import Fleet, finite, gathered
from torchplace.placement.bounds.work import Floats, Ints

_WHOLE = 4000
"""Pairs of an item and a sort that the program takes as they are; of more, items that are alike are taken as one."""
_LARGEST = 40_000
"""Pairs that it takes at all."""
_SORTS = 64
_CHAINS = 4
_MARGIN = 1e-9  # of what the memory's prices add up to: the difference of two large sums is not exact

Longest = Callable[[Floats], Floats]
"""Given how items (columns) are dealt out to sorts (rows), the chain that is longest then: seconds of its items."""


@dataclass(frozen=True)
class Prices:
    """What time and memory are worth: any prices give a bound, the best ones are the duals of the program.

    Attributes:
        time: of each sort's time.
        chains: of the makespan that each chain has to stay within.
        memory: of a device's memory of each sort (column) at each moment (row).
    """

    time: Floats
    chains: Floats
    memory: Floats

    def bound(self, fleet: Fleet, chains: Sequence[Floats] = ()) -> float:
        """Seconds that the busiest device, or the longest chain, takes at least, by these prices.

        Each item pays the least that it would on any sort; what all pay for time, devices have within that many
        seconds. True for all prices that are not negative, so it does not hang on how exact a solver is.

        Args:
            fleet: devices and items.
            chains: seconds of items (columns) on sorts (rows), of items that run one after the other.
        """
        whole = float(fleet.numbers @ self.time + self.chains.sum())
        if whole <= 0:
            return 0.0
        cost = _scaled(fleet.times, self.time[:, None])
        for chain, price in zip(chains, self.chains, strict=True):
            cost = cost + _scaled(chain, price)
        room = (self.memory / fleet.memory).T @ fleet.held
        paid = float((cost + room).min(axis=0).sum())
        owed = float((self.memory * fleet.devices).sum())
        return max(0.0, (paid - owed - (_MARGIN * paid if owed else 0.0)) / whole)

    def shares(self, times: Floats, numbers: Floats) -> Floats:
        """Seconds that all devices together take for each column of times, at least."""
        whole = float(numbers @ self.time)
        return np.asarray(_scaled(times, self.time[:, None]).min(axis=0) / (whole or np.inf))


def even_prices(fleet: Fleet) -> Prices:
    """Prices that need no program: a sort's time is worth as much as it is fast, memory nothing."""
    times = fleet.times
    done = np.isfinite(times)
    taken = np.where(done, times, 0.0).sum(axis=1)
    least = np.where(done, fleet.fastest, 0.0).sum(axis=1)
    speed = np.divide(least, taken, out=np.ones(len(times)), where=taken > 0)
    return Prices(speed, np.zeros(0), np.zeros((len(fleet.held), len(times))))


def solved_prices(fleet: Fleet) -> Prices:
    """The best prices where nothing has to run one after the other: the first of `chained_prices`."""
    return next(chained_prices(fleet, lambda dealt: dealt))[0]


def chained_prices(fleet: Fleet, longest: Longest) -> Iterator[tuple[Prices, list[Floats]]]:
    """The best prices, and the chains that they are for: none at first, then one more each time.

    The program: parts of items are dealt out to sorts so that the busiest sort, and the longest chain, take as little
    time as can be, within the memory of all devices of a sort together. It is that of Lawler and Labetoulle, "On
    preemptive scheduling of unrelated parallel processors by linear programming" (Journal of the ACM 25, 1978), over
    sorts in place of machines, with room.

    Args:
        fleet: devices and items.
        longest: finds the chains.

    Cost: that of a linear program with a variable for each item and sort; of more than 40,000, that of even prices.
    """
    chains: list[Floats] = []
    alike = _alike(fleet) if _is_worth_it(fleet) else None
    if alike is None or len(fleet.times) * (1 + int(alike.max())) > _LARGEST:
        yield even_prices(fleet), chains
        return
    prices, dealt = _solve(fleet, chains, alike)
    yield prices, chains
    while len(chains) < _CHAINS and dealt is not None:
        chains = [*chains, longest(dealt)]
        prices, dealt = _solve(fleet, chains, alike)
        yield prices, chains


def _is_worth_it(fleet: Fleet) -> bool:
    """Whether there is something to deal out, and a choice where to."""
    return 1 < len(fleet.times) <= _SORTS and fleet.times.size > 0 and bool(np.isfinite(fleet.fastest).all())


def _solve(fleet: Fleet, chains: Sequence[Floats], alike: Ints) -> tuple[Prices, Floats | None]:
    """The best prices for some chains, and how items are dealt out; None where the solver found nothing."""
    sorts, count = len(fleet.times), 1 + int(alike.max())
    unit = float(fleet.fastest.sum() / fleet.numbers.sum()) or 1.0
    tight = np.flatnonzero(fleet.held.sum(axis=1) > fleet.memory.min())
    times, *others = (gathered(t / unit, alike, count) for t in (fleet.times, *chains))
    limits = np.zeros(sorts * (1 + len(tight)) + len(chains))
    taken, makespan = np.zeros((len(limits), sorts, count)), np.zeros((len(limits), 1))
    for s in range(sorts):
        taken[s, s], makespan[s] = finite(times[s]), -fleet.numbers[s]
        room = slice(sorts + s, sorts * (1 + len(tight)), sorts)
        taken[room, s], limits[room] = gathered(fleet.held[tight] / fleet.memory[s], alike, count), fleet.devices[s]
    for row, chain in enumerate(others, sorts * (1 + len(tight))):
        taken[row], makespan[row] = finite(chain), -1.0
    pairs = np.arange(sorts * count)
    found = linprog(  # type: ignore[call-overload]  # its types know no sparse arrays
        np.append(np.zeros(len(pairs)), 1.0),
        A_ub=csr_array(np.hstack([taken.reshape(len(limits), -1), makespan])),
        b_ub=limits,
        A_eq=csr_array((np.ones(len(pairs)), (pairs % count, pairs)), shape=(count, len(pairs) + 1)),
        b_eq=np.ones(count),
        bounds=np.array([np.zeros(len(pairs) + 1), np.append(np.isfinite(times).ravel(), np.inf)]).T,
        method="highs-ds",
    )
    if found.status != 0:
        return even_prices(fleet), None
    worth = np.maximum(0.0, -found.ineqlin.marginals)
    memory = np.zeros((len(fleet.held), sorts))
    memory[tight] = unit * worth[sorts : sorts * (1 + len(tight))].reshape(-1, sorts)
    dealt = np.asarray(found.x[:-1]).reshape(sorts, count)[:, alike]
    return Prices(worth[:sorts], worth[sorts * (1 + len(tight)) :], memory), dealt


def _alike(fleet: Fleet) -> Ints:
    """A number for each item; of many items, those get the same that differ little but for their size."""
    count = fleet.times.shape[1]
    if fleet.times.size <= _WHOLE:
        return np.arange(count)
    fastest = np.maximum(fleet.fastest, 1e-300)
    nature = np.vstack([fleet.times / fastest, fleet.held / fleet.memory.max() / fastest * fastest.sum()])
    rounded = np.round(2 * np.log2(np.maximum(nature, 1e-6)))
    return np.asarray(np.unique(rounded, axis=1, return_inverse=True)[1]).ravel()


def _scaled(times: Floats, price: Floats | float) -> Floats:
    """Times at a price; what cannot be is no cheaper for being worth nothing."""
    return np.asarray(np.where(np.isfinite(times), finite(times) * price, np.inf))
