"""Bodies: the segments that units run, the gradients that are added up behind them, and what leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.instructions import Run, Update
from torchplace.compiler.lower import only_writes
from torchplace.compiler.order import Duration
from torchplace.compiler.program import Segment
from torchplace.compiler.residence import Residence
from torchplace.compiler.tasks import Task
from torchplace.compiler.units import Body, Piece, Unit

_PENDING = 8
"""A device's gradients are added up when an eighth of their bytes has been made, so that no more waits for it."""


class Bodies(dict[tuple[int, ...], Body]):
    """Numbers of a unit's tasks -> what it does, the same in every micro-batch.

    Attributes:
        segments: that they run, by name.
    """

    def __init__(
        self, graph: Graph, tasks: Sequence[Task], residence: Residence, sums: Mapping[str, Sequence[str]]
    ) -> None:
        """Of a graph's tasks; none is made yet.

        Args:
            graph: of a micro-batch.
            tasks: by number.
            residence: where values are.
            sums: gradient that is added up -> the names of its sums.
        """
        super().__init__()
        self.segments: dict[str, Segment] = {}
        self._tasks, self._residence, self._sums = tasks, residence, sums
        self._index = {op: i for i, op in enumerate(graph.ops)}
        self._wanted = {name for name, users in residence.users.items() if users}
        self._wanted.update(v.name for v in graph.output_values)

    def make(self, units: Iterable[Unit], duration: Duration, exits: set[str | None]) -> None:
        """Make those of some units; `exits` are the values that end as outputs."""
        for unit in units:
            if unit.tasks not in self:
                self[unit.tasks] = self._body(unit, duration, exits)

    def _body(self, unit: Unit, duration: Duration, exits: set[str | None]) -> Body:
        numbers = set(unit.tasks)
        ops = [op for n in unit.tasks for op in self._tasks[n].ops]
        ops.sort(key=self._index.__getitem__)
        writes = [op for op in ops if only_writes(op, self._wanted)]
        ran = [op for op in ops if not only_writes(op, self._wanted)]
        after = {n for number in numbers for n in self._tasks[number].after}
        behind = {n for number in numbers for n in self._tasks[number].behind}
        return Body(
            tuple(self._piece(unit.device, part, exits) for part in self._parts(ran)),
            tuple(Update(op.mutates[0], op.args[1].name) for op in writes),
            tuple(self._residence.hands_on(ran)),
            tuple(self._residence.sends(ran)),
            tuple(sorted(after - numbers)),
            tuple(sorted(behind - numbers)),
            sum(duration(op, unit.device) for op in ops),
        )

    def _parts(self, ran: Sequence[Op]) -> list[list[Op]]:
        """Ops in pieces, each of which makes only so many bytes of gradients that are to be added up."""
        made = [sum(v.storage_bytes for v in op.outputs if v.name in self._sums) for op in ran]
        limit, left, pending = sum(made) / _PENDING, sum(made), 0
        parts: list[list[Op]] = [[]]
        for op, nbytes in zip(ran, made, strict=True):
            parts[-1].append(op)
            pending, left = pending + nbytes, left - nbytes
            if nbytes and left and pending >= limit:
                parts.append([])
                pending = 0
        return [part for part in parts if part]

    def _piece(self, device: str, ran: Sequence[Op], exits: set[str | None]) -> Piece:
        here = set(ran)
        made = {v.name for op in ran for v in op.outputs}
        taken = tuple(dict.fromkeys(v.name for op in ran for v in op.inputs if v.name not in made))
        given = tuple(v.name for op in ran for v in op.outputs if self._leaves(v, here, exits))
        name = f"s{len(self.segments)}"
        self.segments[name] = Segment(name, device, tuple(op.name for op in ran))
        return Piece(Run(name, taken, given), tuple((n, into) for n in given for into in self._sums.get(n, ())))

    def _leaves(self, value: Value, ran: set[Op], exits: set[str | None]) -> bool:
        is_asked_for = value.name in self._sums or value.name in exits
        return is_asked_for or any(user not in ran for user in self._residence.users[value.name])
