"""Moves ops off the devices that hints forbid them: what makes any solver's placement keep to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from torchplace.placement.problem import Problem


def keep_off(problem: Problem, placement: Mapping[str, str], limits: Mapping[str, int]) -> dict[str, str]:
    """The same placement, but for ops on a device that is forbidden to them.

    What was put on one device and is joined by values moves as one, if a device has room for all of it, for whoever
    placed it wanted it together; else group by group, the largest first. Of the devices that are allowed and have
    room, the one is taken that exchanges the most bytes with what moves; then the one that runs it the soonest; then
    the first.

    Args:
        problem: whose ops they are.
        placement: a device for every op.
        limits: device name -> bytes that may stay on it.

    Returns:
        A placement on allowed devices alone. Where none has room, the roomiest is taken: it may break the limits.

    Cost: linear in ops + edges, times the devices for those that move; nothing where no hint forbids anything.
    """
    moved = dict(placement)
    if problem.forbidden:
        _Move(problem, moved, limits).run()
    return moved


class _Move:
    """Groups on their way to other devices."""

    def __init__(self, problem: Problem, placement: dict[str, str], limits: Mapping[str, int]) -> None:
        self.problem, self.placement = problem, placement
        self.group_of = {op: group for group in problem.groups for op in group}
        wrong = [g for g in problem.groups if not problem.allows(g[0], placement[g[0]])]
        self.from_ = {op: placement.pop(op) for group in wrong for op in group}
        self.left = {d: limits[d] - nbytes for d, nbytes in self._loads().items()}
        self.beside: dict[str, list[tuple[str, int]]] = {}  # op that moves -> other ops, bytes exchanged
        sizes = {v.name: v.nbytes for op in problem.graph.ops for v in op.outputs}
        for edge in problem.edges if wrong else ():
            for one, other in ((edge.source, edge.target), (edge.target, edge.source)):
                if one in self.from_:
                    self.beside.setdefault(one, []).append((other, sum(sizes[v] for v in edge.values)))
        self.wrong = wrong

    def _loads(self) -> dict[str, int]:
        load = dict(self.problem.fixed_bytes)
        for op, device in self.placement.items():
            load[device] += self.problem.op_bytes[op]
        return load

    def run(self) -> None:
        pieces = self._pieces()
        for piece in sorted(pieces, key=lambda ops: -self._bytes(ops)):
            if not self._put(piece, only_with_room=True):
                groups = dict.fromkeys(self.group_of[op] for op in piece)
                for group in sorted(groups, key=lambda ops: -self._bytes(ops)):
                    self._put(group, only_with_room=False)

    def _pieces(self) -> list[list[str]]:
        """What moves, in pieces: joined by values, from one device, with the same devices forbidden."""
        pieces: list[list[str]] = []
        seen: set[str] = set()
        for group in self.wrong:
            if group[0] not in seen:
                pieces.append(self._reach(group, seen))
        return pieces

    def _reach(self, group: Sequence[str], seen: set[str]) -> list[str]:
        sort = self._sort(group[0])
        piece: list[str] = []
        waiting = [group]
        seen.update(group)
        while waiting:
            for op in waiting.pop():
                piece.append(op)
                for other, _ in self.beside.get(op, ()):
                    if other not in seen and other in self.from_ and self._sort(other) == sort:
                        seen.update(self.group_of[other])
                        waiting.append(self.group_of[other])
        return piece

    def _sort(self, op: str) -> tuple[str, frozenset[str]]:
        return self.from_[op], self.problem.forbidden[op]

    def _bytes(self, ops: Iterable[str]) -> int:
        return sum(self.problem.op_bytes[op] for op in ops)

    def _put(self, ops: Sequence[str], only_with_room: bool) -> bool:
        """Place ops that move together; whether they were placed."""
        nbytes = self._bytes(ops)
        allowed = [d for d in self.problem.devices if self.problem.allows(ops[0], d)]
        roomy = [d for d in allowed if nbytes == 0 or self.left[d] >= nbytes]
        if not roomy and only_with_room:
            return False
        device = self._best(ops, roomy) if roomy else max(allowed, key=self.left.__getitem__)
        self.left[device] -= nbytes
        self.placement.update(dict.fromkeys(ops, device))
        return True

    def _best(self, ops: Sequence[str], devices: Sequence[str]) -> str:
        exchanged: Counter[str] = Counter()
        for op in ops:
            for other, nbytes in self.beside.get(op, ()):
                if other in self.placement:
                    exchanged[self.placement[other]] += nbytes
        most = max(exchanged[d] for d in devices)
        near = [d for d in devices if exchanged[d] == most]
        return min(near, key=lambda d: sum(map(self.problem.durations(d).__getitem__, ops)))
