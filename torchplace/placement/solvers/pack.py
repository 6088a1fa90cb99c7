"""What solvers share: memory as a limit to pack against, and a packing for when their own way leads to none."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from torchplace.errors import InfeasibleError
from torchplace.placement.infeasible import nothing_fits, shortages
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.blame import about, in_force, pinned_bytes
from torchplace.placement.solvers.keep_off import keep_off

Limits = Mapping[str, int]
"""Device name -> bytes that may stay on it."""


RESERVES = (1.0, 0.5, 0.25, 0.125, 0.0)
"""Shares of the problem's transient bytes that are kept free, one attempt after the other."""


def within_memory(problem: Problem, who: str, attempt: Callable[[Limits], Mapping[str, str] | None]) -> dict[str, str]:
    """The first placement that fits: the solver's own, with as much room for what comes and goes as there is.

    The first attempt keeps all of the transient bytes free on every device. Where it fails memory is short: less
    is kept free step by step, and whether that is enough the problem's evaluation decides. Where none of the
    solver's own placements fits, those of `pack` are tried in the same way.

    What an attempt puts on a device that a hint forbids is moved first (`keep_off`): a solver that comes through here
    keeps to every hint if it keeps groups together and pins in place.

    Args:
        problem: the problem.
        who: the solver's name, for the error.
        attempt: a placement of every op within limits; None, or one that breaks them, where it finds none.

    Raises:
        InfeasibleError: neither the solver nor `pack` found a placement that fits the devices.
    """
    reasons: list[str] = []
    for method in (attempt, lambda limits: pack(problem, limits)):
        for reserve in RESERVES:
            limits = problem.limits(reserve)
            placement = method(limits)
            placement = None if placement is None else keep_off(problem, placement, limits)
            if placement is None or not problem.fits(placement, limits):
                continue
            placement = in_order(problem, placement)
            if method is attempt and reserve == RESERVES[0]:
                return placement
            evaluation = problem.evaluate(placement)
            if evaluation.feasible:
                return placement
            reasons.append(evaluation.reason)
    raise failure(problem, who, reasons)


def failure(problem: Problem, who: str, reasons: Sequence[str]) -> InfeasibleError:
    """Why a solver found nothing: what makes it impossible for any, else what became of its placements.

    Args:
        problem: the problem.
        who: the solver's name.
        reasons: of placements in which what stays fits, but what comes and goes does not; may be empty.
    """
    try:
        reject_impossible(problem)
    except InfeasibleError as error:
        return error
    if reasons:
        return InfeasibleError(
            f"solver {who!r} found no placement that fits while it runs; {reasons[0]}{in_force(problem)}"
        )
    return nothing_fits(problem.resident(pack(problem, problem.capacity)), problem.capacity, who, in_force(problem))


def reject_impossible(problem: Problem) -> None:
    """Say so where no placement can fit, whatever solver is asked.

    Raises:
        InfeasibleError: the pins overfill a device, or some ops that stay together are too much for any device that
            they may be on; names the hints.
    """
    load, capacity = base_load(problem), problem.capacity
    if lacking := shortages(load, capacity):
        put = pinned_bytes(problem, [d for d, has in capacity.items() if load[d] > has])
        raise InfeasibleError(f"no placement fits with these pins: {lacking}, of what the pins put there alone{put}")
    room = {device: capacity[device] - load[device] for device in problem.devices}
    largest: dict[frozenset[str], tuple[str, ...]] = {}  # of the groups with the same devices forbidden
    for group in sorted(free_groups(problem), key=lambda group: -bytes_of(problem, group)):
        largest.setdefault(problem.forbidden.get(group[0], frozenset()), group)
    for ruled_out, group in largest.items():
        roomiest = max((d for d in problem.devices if d not in ruled_out), key=room.__getitem__)
        if bytes_of(problem, group) > room[roomiest]:
            raise _too_large(problem, group, roomiest, load[roomiest])


def _too_large(problem: Problem, group: Sequence[str], roomiest: str, load: int) -> InfeasibleError:
    what = f"op {group[0]!r}" if len(group) == 1 else f"op {group[0]!r} and {len(group) - 1} with it"
    lacking = shortages({roomiest: load + bytes_of(problem, group)}, {roomiest: problem.capacity[roomiest]})
    which = "the roomiest" if problem.forbidden.get(group[0]) is None else "the roomiest that is allowed"
    why = about(problem, group)
    return InfeasibleError(f"no placement fits: {what} must be on one device{why}, and {lacking}, {which}")


def in_order(problem: Problem, placement: Mapping[str, str]) -> dict[str, str]:
    """The same placement, its ops in program order."""
    return {op: placement[op] for op in problem.ops}


def base_load(problem: Problem) -> dict[str, int]:
    """Device name -> bytes that are on it before a solver decides anything: what is fixed, and what is pinned."""
    load = dict(problem.fixed_bytes)
    for op, device in problem.pins.items():
        load[device] += problem.op_bytes[op]
    return load


def free_groups(problem: Problem) -> list[tuple[str, ...]]:
    """The groups that no pin decides, in the order of their first ops."""
    return [group for group in problem.groups if group[0] not in problem.pins]


def bytes_of(problem: Problem, ops: Sequence[str]) -> int:
    """Resident bytes that some ops bring together."""
    return sum(problem.op_bytes[op] for op in ops)


class Room:
    """Room left on each device, in bytes; finds the tightest device that has enough.

    Invariant: `_sorted` holds (room, position) of every device, ascending. Cost: O(log d) to find, O(d) moves of
    a list's tail to take.
    """

    def __init__(self, limits: Limits, load: Mapping[str, int]) -> None:
        """Start with `load` already on the devices."""
        self.devices = tuple(limits)
        self.left = {d: limits[d] - load[d] for d in self.devices}
        self._position = {d: i for i, d in enumerate(self.devices)}
        self._sorted = sorted((room, self._position[d]) for d, room in self.left.items())

    def tightest(self, nbytes: int, forbidden: Collection[str] = ()) -> str:
        """The device with the least room that is still enough; the one with the most where none has enough."""
        found, count = bisect_left(self._sorted, (nbytes, -1)), len(self._sorted)
        order = (self.devices[self._sorted[i][1]] for i in chain(range(found, count), range(found - 1, -1, -1)))
        return next(device for device in order if device not in forbidden)

    def with_room(self, nbytes: int, forbidden: Collection[str] = ()) -> list[str]:
        """Every device with enough room, in the topology's order; the one with the most where none has enough."""
        found = self._sorted[bisect_left(self._sorted, (nbytes, -1)) :]
        devices = [self.devices[i] for i in sorted(i for _, i in found)]
        return [d for d in devices if d not in forbidden] or [self.tightest(nbytes, forbidden)]

    def has(self, device: str, nbytes: int) -> bool:
        """Whether a device can take so much more; what brings nothing has room everywhere."""
        return nbytes == 0 or self.left[device] >= nbytes

    def take(self, device: str, nbytes: int) -> None:
        """Use some of a device's room."""
        if nbytes == 0:
            return
        position = self._position[device]
        del self._sorted[bisect_left(self._sorted, (self.left[device], position))]
        self.left[device] -= nbytes
        insort(self._sorted, (self.left[device], position))


def pack(problem: Problem, limits: Limits) -> dict[str, str]:
    """Place groups by memory alone: the largest first, each where it leaves the least room (best-fit decreasing).

    Groups that bring no bytes go with an op that they take from or give to. The last resort of solvers whose own
    way fits nowhere. Johnson et al., "Worst-case performance bounds for simple one-dimensional packing
    algorithms" (SIAM Journal on Computing 3, 1974): at most 11/9 of the fewest bins, plus a constant; so a
    placement may exist where this finds none. Cost: O(n log n) for n ops, plus moves in a list of the devices.
    """
    placement = dict(problem.pins)
    room = Room(limits, base_load(problem))
    heavy = [(bytes_of(problem, group), group) for group in free_groups(problem)]
    for nbytes, group in sorted(heavy, key=lambda item: -item[0]):
        if nbytes > 0:
            device = room.tightest(nbytes, problem.forbidden.get(group[0], ()))
            room.take(device, nbytes)
            placement.update(dict.fromkeys(group, device))
    _join_neighbours(problem, placement)
    return keep_off(problem, placement, limits)


def _join_neighbours(problem: Problem, placement: dict[str, str]) -> None:
    """Place the ops that are left with what they take from, or else with what they give to."""
    group_of = {op: group for group in problem.groups for op in group}
    for edge in problem.edges:
        if edge.source in placement and edge.target not in placement:
            placement.update(dict.fromkeys(group_of[edge.target], placement[edge.source]))
    for edge in reversed(problem.edges):
        if edge.target in placement and edge.source not in placement:
            placement.update(dict.fromkeys(group_of[edge.source], placement[edge.target]))
    for op in problem.ops:
        placement.setdefault(op, problem.devices[0])
