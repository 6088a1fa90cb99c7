"""Tasks: what a schedule orders. All ops of one device and one phase that no other device comes between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torchplace.compiler.graph import STATE, Graph, Op, Phase, Value

PHASES: tuple[Phase, ...] = ("forward", "backward", "weight-grad")


@dataclass(frozen=True)
class Task:
    """What a device does for a micro-batch at a stretch.

    Attributes:
        number: its place among the tasks, none of which needs a later one.
        device: where it runs.
        phase: of its ops.
        level: how many times the data have changed device before it.
        ops: in order.
        after: numbers of the tasks whose results it takes, each once.
        behind: numbers of the tasks that must have done the micro-batch before: itself, and those that write state
            which it reads.
    """

    number: int
    device: str
    phase: Phase
    level: int
    ops: tuple[Op, ...]
    after: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"task {self.number}: {self.phase} on {self.device} at level {self.level}, {len(self.ops)} ops"


def make_tasks(graph: Graph, placement: Mapping[str, str]) -> list[Task]:
    """Group the ops of a graph so that each device computes in few, long stretches, for any placement.

    An op's *level* is the number of changes of device on the way to it, the most of all ways. Ops of one device, phase
    and level form a task: edges lead from a task to itself, to another device's with a higher level, or to a later
    phase or level on the same device. So tasks never wait for each other in a circle, whatever the placement (skip
    connections, branches, a device that is visited many times). An op that only its own device waits for goes up to
    where it is needed, which leaves fewer tasks. For a chain of stages that is one forward and one backward for each.

    Args:
        graph: forward, backward and gradients in one.
        placement: op name -> device.

    Returns:
        The tasks, each behind all that it needs. Cost: linear in the edges, and O(T log T) for T tasks.
    """
    readers = state_readers(graph)
    levels = _levels(graph, placement, readers)
    grouped: dict[tuple[int, int, str], list[Op]] = {}
    for op in graph.ops:
        key = levels[op], PHASES.index(op.phase), placement[op.name]
        grouped.setdefault(key, []).append(op)
    tasks = [
        Task(number, device, PHASES[phase], level, tuple(ops))
        for number, ((level, phase, device), ops) in enumerate(sorted(grouped.items(), key=lambda item: item[0]))
    ]
    task_of = {op: task.number for task in tasks for op in task.ops}
    before: dict[int, set[int]] = {task.number: set() for task in tasks}
    behind: dict[int, set[int]] = {task.number: {task.number} for task in tasks}
    for op in (op for op in graph.ops if op.mutates):
        for reader in (r for name in op.mutates for r in readers[name]):
            behind[task_of[reader]].add(task_of[op])
            if placement[reader.name] == placement[op.name]:
                before[task_of[op]].add(task_of[reader])
    users_of = graph.users
    for users in (users_of[v.name] for v in graph.inputs if v.kind not in STATE):
        taking = {task_of[op] for op in users}
        for number in taking:  # it comes with the first of them (`first_user`)
            before[number].add(min(taking))
    for op, loss in after_loss(graph).items():
        before[task_of[op]].add(task_of[loss])
    return [
        replace(t, after=_needed(t, task_of, before[t.number]), behind=tuple(sorted(behind[t.number]))) for t in tasks
    ]


def state_readers(graph: Graph) -> dict[str, list[Op]]:
    """State that is written -> the other forward ops that read it, or a view of it. Cost: linear in the edges."""
    readers: dict[str, list[Op]] = {name: [] for op in graph.ops for name in op.mutates}
    root = graph.storage() if readers else {}
    for op in graph.ops if readers else ():
        for name in {root[v.name] for v in op.inputs} & readers.keys():
            if op.phase == "forward" and name not in op.mutates:
                readers[name].append(op)
    return readers


def after_loss(graph: Graph) -> dict[Op, Op]:
    """Backward ops that need nothing of the backward pass -> the op that makes the loss, for which they wait.

    What checkpointing computes anew could run as soon as the forward pass has, and would save no memory then.
    """
    loss = graph.outputs[0] if graph.outputs else None
    if loss is None or loss.kind != "output" or not isinstance(loss.value, Value) or loss.value.producer is None:
        return {}
    late = (op for op in graph.ops if op.phase != "forward" and not any(map(_is_backward, op.inputs)))
    return dict.fromkeys(late, loss.value.producer)


def _is_backward(value: Value) -> bool:
    return value.producer is not None and value.producer.phase != "forward"


def first_user(users: Sequence[Op], task_of: Mapping[Op, int]) -> Op | None:
    """The op that decides where a value of the caller's starts: one of the first task that takes it."""
    return min(users, key=task_of.__getitem__, default=None)


def _needed(task: Task, task_of: Mapping[Op, int], before: set[int]) -> tuple[int, ...]:
    """Numbers of the tasks that make what a task takes, and of those that must come before it for another reason."""
    makers = {task_of[v.producer] for op in task.ops for v in op.inputs if v.producer is not None}
    return tuple(sorted((makers | before) - {task.number}))


def _levels(graph: Graph, placement: Mapping[str, str], readers: Mapping[str, list[Op]]) -> dict[Op, int]:
    levels: dict[Op, int] = {}
    awaited = after_loss(graph)
    for op in sorted(graph.ops, key=lambda op: op.phase != "forward"):  # none of the forward ops needs any of the rest
        here, level = placement[op.name], 0
        if op in awaited:
            level = levels[awaited[op]] + (placement[awaited[op].name] != here)
        for value in op.inputs:
            if value.producer is not None:
                there = placement[value.producer.name]
                level = max(level, levels[value.producer] + (there != here))
        levels[op] = level
    _rise(graph, placement, levels)
    for op in (op for op in graph.ops if op.mutates):  # state is written behind the last that reads it where it lives
        reading = (r for name in op.mutates for r in readers[name] if placement[r.name] == placement[op.name])
        levels[op] = max([levels[op], *(levels[r] for r in reading)])
    return levels


def _rise(graph: Graph, placement: Mapping[str, str], levels: dict[Op, int]) -> None:
    """Put ops off to the level at which their device needs them first, where nobody else needs them before."""
    users = graph.users
    wanted = {v.name for v in graph.output_values}
    for op in reversed(graph.ops):
        here = placement[op.name]
        taking = [user for v in op.outputs for user in users[v.name]]
        if op.mutates or not taking or any(v.name in wanted for v in op.outputs):
            continue
        if all(placement[user.name] == here for user in taking):
            limit = min(levels[user] for user in taking)
            alike = [levels[user] for user in taking if user.phase == op.phase and levels[user] <= limit]
            levels[op] = max(alike, default=levels[op])


def stages(tasks: list[Task]) -> list[str]:
    """The devices in the order in which the forward pass comes to them first: the stages of a pipeline."""
    return list(dict.fromkeys(task.device for task in tasks if task.phase == "forward"))


def visits(tasks: list[Task]) -> Counter[str]:
    """Device -> how many forward tasks it has."""
    return Counter(task.device for task in tasks if task.phase == "forward")


Item = tuple[int, int]
"""A task, by its number, and a micro-batch."""


class Waiting:
    """Which items can be done, while they are done one by one."""

    def __init__(self, tasks: Sequence[Task], microbatches: int) -> None:
        """Nothing has been done yet. Cost: linear in micro-batches x (tasks and what they need)."""
        self._count = {
            (t.number, k): len(t.after) + len(t.behind) * (k > 0) for t in tasks for k in range(microbatches)
        }
        self._followers: dict[int, list[tuple[int, int]]] = {t.number: [] for t in tasks}  # task, micro-batches later
        for task in tasks:
            for number in task.after:
                self._followers[number].append((task.number, 0))
            for number in task.behind:
                self._followers[number].append((task.number, 1))

    def __len__(self) -> int:
        return len(self._count)

    @property
    def ready(self) -> list[Item]:
        """The items that wait for nothing."""
        return [item for item, count in self._count.items() if not count]

    def done(self, item: Item) -> Iterator[tuple[Item, bool, bool]]:
        """What waited for an item that is done now: (item, whether in the same micro-batch, whether it is ready)."""
        number, k = item
        for follower, later in self._followers[number]:
            then = follower, k + later
            if then in self._count:
                self._count[then] -= 1
                yield then, not later, not self._count[then]
