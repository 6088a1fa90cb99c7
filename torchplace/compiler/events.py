"""Events: the one global order of what devices do in a pipeline, through which all their lists are cuts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from torchplace.compiler.bodies import Bodies
from torchplace.compiler.graph import Value
from torchplace.compiler.order import Delay
from torchplace.compiler.residence import Residence
from torchplace.compiler.tasks import Task
from torchplace.compiler.units import Body, Unit
from torchplace.errors import ProgramError

Transfer = tuple[Value, str, int]
"""A value, the device it goes to, and the micro-batch."""


class Events:
    """All devices at work, each at its units in order, each unit when all that it needs has come."""

    def __init__(
        self,
        units: Mapping[str, Sequence[Unit]],
        bodies: Bodies,
        residence: Residence,
        tasks: Sequence[Task],
        delay: Delay,
    ) -> None:
        """Nothing has been done yet.

        Args:
            units: device -> what it does, in turn.
            bodies: what those consist of.
            residence: where values are.
            tasks: by number.
            delay: seconds of a transfer.
        """
        self._units, self._bodies, self._residence, self._tasks, self._delay = units, bodies, residence, tasks, delay
        self._ended: dict[tuple[int, int], float] = {}  # (task, micro-batch) -> when
        self._arrived: dict[tuple[int, str, int], float] = {}  # (task, device, micro-batch) -> when its values have
        self._busy = dict.fromkeys(units, 0.0)

    def ordered(self) -> list[Unit | Transfer]:
        """What is done, and what leaves, in order of time. Cost: linear in micro-batches x edges, and a sort.

        Raises:
            ProgramError: nobody can go on.
        """
        return [what for _, what in sorted(self._timed(), key=itemgetter(0))]  # of one time, as they came

    def _timed(self) -> Iterator[tuple[float, Unit | Transfer]]:
        at = dict.fromkeys(self._units, 0)
        waiting = [d for d in self._units if self._units[d]]
        while waiting:
            done = 0
            for device in waiting:
                while at[device] < len(self._units[device]) and self._can(unit := self._units[device][at[device]]):
                    yield from self._do(unit)
                    at[device] += 1
                    done += 1
            waiting = [d for d in waiting if at[d] < len(self._units[d])]
            if not done:
                stuck = [f"{d}: {self._tasks[self._units[d][at[d]].tasks[0]]}" for d in waiting]
                raise ProgramError(f"the orders wait for each other: {'; '.join(stuck[:4])}")

    def _can(self, unit: Unit) -> bool:
        """Whether all that a unit needs has been done."""
        body, k = self._bodies[unit.tasks], unit.microbatch
        return all(done in self._ended for done in _awaited(body, k))

    def _do(self, unit: Unit) -> Iterator[tuple[float, Unit | Transfer]]:
        """A unit, and what leaves before and behind it, each with its time."""
        body, k, device = self._bodies[unit.tasks], unit.microbatch, unit.device
        come = (self._arrived.get((n, device, k), self._ended[n, k]) for n in body.after)
        begun = max([self._busy[device], *come, *(self._ended[n, k - 1] for n in body.behind if k)])
        end = self._busy[device] = begun + body.seconds
        self._ended.update(((n, k), end) for n in unit.tasks)
        for value, there in body.hands_on:
            yield begun, self._leave(value, there, k, begun)
        yield begun, unit
        for value, there in body.sends:
            yield end, self._leave(value, there, k, end)

    def _leave(self, value: Value, there: str, k: int, left: float) -> Transfer:
        key = self._residence.leaves_with(value), there, k
        come = left + self._delay(value, self._residence.where[value.name], there)
        self._arrived[key] = max(come, self._arrived.get(key, 0.0))
        return value, there, k


def _awaited(body: Body, k: int) -> Iterator[tuple[int, int]]:
    """What must have been done before a body's micro-batch."""
    yield from ((n, k) for n in body.after)
    if k:
        yield from ((n, k - 1) for n in body.behind)
