"""Residence: on which device each value of a micro-batch is made, and to which others it has to go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from torchplace.compiler.graph import STATE, Graph, Op, Value
from torchplace.compiler.tasks import Task, first_user


class Residence:
    """Where values are.

    Attributes:
        placement: op name -> device.
        task_of: op -> number of its task.
        users: value name -> ops that take it.
        entry: input name -> device on which it starts.
        where: value name -> device on which it is made, or starts.
    """

    def __init__(
        self,
        graph: Graph,
        placement: Mapping[str, str],
        owners: Mapping[str, str],
        devices: Sequence[str],
        tasks: Sequence[Task],
    ) -> None:
        """Of a graph whose ops are placed; inputs start where they are owned, or where they are taken first."""
        self.placement, self.users = placement, graph.users
        self.task_of = {op: task.number for task in tasks for op in task.ops}
        self._first = {v.name: first_user(self.users[v.name], self.task_of) for v in graph.inputs}
        self.entry = {v.name: owners.get(v.name) or self._taken_first(v, devices[0]) for v in graph.inputs}
        self.where = dict(self.entry)
        self.where.update((v.name, placement[op.name]) for op in graph.ops for v in op.outputs)

    def _taken_first(self, value: Value, otherwise: str) -> str:
        first = self._first[value.name]
        return otherwise if first is None else self.placement[first.name]

    def others(self, value: Value) -> list[str]:
        """The devices that take a value and do not have it."""
        there = dict.fromkeys(self.placement[u.name] for u in self.users[value.name])
        return [device for device in there if device != self.where[value.name]]

    def leaves_with(self, value: Value) -> int:
        """The task with which a value that is sent leaves: that makes it, or takes it first."""
        op = value.producer or self._first[value.name]
        assert op is not None
        return self.task_of[op]

    def sends(self, ran: Collection[Op]) -> Iterator[tuple[Value, str]]:
        """What ops make and other devices take, and where to."""
        for value in (v for op in ran for v in op.outputs):
            yield from ((value, device) for device in self.others(value))

    def hands_on(self, ran: Collection[Op]) -> Iterator[tuple[Value, str]]:
        """What the caller gives to the first of some ops, and other devices take, and where to."""
        for value in dict.fromkeys(v for op in ran for v in op.inputs if v.producer is None and v.kind not in STATE):
            if self._first[value.name] in ran:
                yield from ((value, device) for device in self.others(value))
