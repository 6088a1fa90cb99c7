"""When ops can start at the earliest: along paths, with transfers or without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

Before = Sequence[Sequence[tuple[int, float]]]
"""Of each op, the ops before it that it takes something from, and the seconds of a transfer from there. Ops stand in an
order in which they can run."""

Find = Callable[[Before, Sequence[float]], list[float]]
"""Finds the earliest start of each op, given what is before it and the seconds of each."""

_NEAR = 128
"""So many ops are looked at for one op: beyond, less is proved, and nothing wrong."""
_TRIES = 24
"""So many times is the start of one op put off."""
_ROUNDING = 1e-12


def heads(before: Before, seconds: Sequence[float]) -> list[float]:
    """The earliest start of each op if transfers took no time: the longest path to it. Cost: linear in the edges."""
    return _Heads(before, seconds, put_off=False).starts


def heads_with_transfers(before: Before, seconds: Sequence[float]) -> list[float]:
    """The earliest start of each op if it waits for transfers, or else shares a device with what it takes from.

    A start is refuted like this. Whoever hands on too late for a transfer must be on the op's own device; so must,
    then, whoever hands on to that one too late; and all of these run there one after the other, none before its own
    earliest start. If they end too late, the op starts no sooner than they end, or than one of them need not be there.
    Papadimitriou and Yannakakis, "Towards an architecture-independent analysis of parallel algorithms" (SIAM Journal
    on Computing 19, 1990), section 2, show that for transfers that all take as long, and for ops that may be done
    twice; what cannot be done there cannot be done here.

    Nothing before an op on which all else hangs is looked at: its own start tells of that.

    Cost: linear in the edges, times the ops between a join and where its branches part, 128 at most, and 24 tries.
    """
    return _Heads(before, seconds, put_off=True).starts


def tails(find: Find, before: Before, seconds: Sequence[float]) -> list[float]:
    """What `find` gives, seen from the end: the least time from the end of each op to the end of all.

    Backwards in time, an op is to whoever takes from it as that one is to it.
    """
    last = len(before) - 1
    after: list[list[tuple[int, float]]] = [[] for _ in before]
    for user in range(last, -1, -1):
        for op, delay in before[user]:
            after[last - op].append((last - user, delay))
    return find(after, seconds[::-1])[::-1]


class _Heads:
    """The earliest starts and ends of the ops so far."""

    def __init__(self, before: Before, seconds: Sequence[float], put_off: bool) -> None:
        self.before, self.seconds = before, seconds
        self.starts: list[float] = []
        self.ends: list[float] = []
        ends = self.ends
        for op, ops in enumerate(before):
            start = 0.0
            for near, _ in ops:
                if ends[near] > start:
                    start = ends[near]
            if put_off and len(ops) > 1:
                start = self._put_off(op, start)
            self.starts.append(start)
            ends.append(start + seconds[op])

    def _put_off(self, op: int, start: float) -> float:
        """The earliest start of an op, if none before `start` is possible."""
        for _ in range(_TRIES):
            until = self._near(op, start)
            end = 0.0
            for near in sorted(until, key=self.starts.__getitem__):
                end = max(end, self.starts[near]) + self.seconds[near]
            if end <= start * (1 + _ROUNDING):
                break
            start = min(end, *until.values())
        return start

    def _near(self, op: int, start: float) -> dict[int, float]:
        """Ops that must be on the device of an op that starts then, each with the start from which it need not.

        With every op goes how long before `op` it has to start at the latest (`ahead`): what takes from it, and must
        be there too, starts so much earlier. The last ops come first, so nothing that is found later changes that.
        """
        limit, ends = start * (1 + _ROUNDING), self.ends
        ahead, until, waiting, looked = {op: 0.0}, dict[int, float](), [-op], 0
        while waiting and looked < _NEAR:
            user = -heappop(waiting)
            if not waiting and user != op:
                break  # all else hangs on this one
            looked += 1
            for near, delay in self.before[user]:
                needless = ends[near] + delay + ahead[user]
                if needless > limit:
                    if near not in ahead:
                        heappush(waiting, -near)
                    until[near] = max(until.get(near, 0.0), needless)
                    ahead[near] = max(ahead.get(near, 0.0), ahead[user] + self.seconds[near])
        return until
