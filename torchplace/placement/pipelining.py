"""Pipelines: which schedule a placement gets, and its program of many micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchplace.compiler.footprint import Workspace
from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.order import Delay, Duration
from torchplace.compiler.pipeline import lower_pipeline, pipeline_tasks
from torchplace.compiler.program import Program
from torchplace.compiler.schedule import SCHEDULES
from torchplace.compiler.schedule.orders import Orders, closed_form
from torchplace.compiler.tasks import Task
from torchplace.placement.synthesise import synthesise

AUTO, SYNTHESISED = "auto", "synthesised"
CHOICES = (AUTO, *SCHEDULES, SYNTHESISED)
"""What the option `schedule` can be."""

_APART = frozenset({"zero-bubble", SYNTHESISED})
"""Schedules that put weight gradients off, so that what others wait for is sent before them."""


@dataclass(frozen=True)
class Pipelining:
    """How a step goes through its devices.

    Attributes:
        microbatches: how many.
        schedule: one of `CHOICES`; `auto` takes the best predicted.
    """

    microbatches: int = 1
    schedule: str = AUTO


@dataclass(frozen=True)
class Costs:
    """What lowering is told of a machine: seconds of ops and transfers, bytes of workspaces."""

    duration: Duration
    delay: Delay
    workspace: Workspace


def pipelines(
    graph: Graph,
    placement: Mapping[str, str],
    devices: tuple[str, ...],
    owners: Mapping[str, str],
    wanted: Pipelining,
    costs: Costs,
) -> Iterator[tuple[str, Program]]:
    """The programs that a placement can run as, each with the name of its schedule.

    Args:
        graph: of one micro-batch.
        placement: op name -> device.
        devices: all, in the topology's order.
        owners: input name, and full name of a parameter -> device.
        wanted: how many micro-batches, and which schedule.
        costs: of the machine.
    """
    tasks = pipeline_tasks(graph, placement, owners)
    for name, orders in _orders(tasks, wanted, costs):
        program = lower_pipeline(
            graph,
            placement,
            devices,
            owners,
            orders,
            wanted.microbatches,
            costs.duration,
            costs.delay,
            costs.workspace,
            whole=name not in _APART,
            tasks=tasks,
        )
        yield name, program


def _orders(tasks: Sequence[Task], wanted: Pipelining, costs: Costs) -> Iterator[tuple[str, Orders]]:
    names = [n for n in CHOICES[1:] if wanted.schedule in (AUTO, n)]
    seen: list[tuple[bool, Orders]] = []
    for name in names:
        for make in _makers(name, tasks, wanted.microbatches, costs):
            orders = make()
            if (known := (name in _APART, orders)) not in seen:
                seen.append(known)
                yield name, orders


def _makers(name: str, tasks: Sequence[Task], microbatches: int, costs: Costs) -> list[Callable[[], Orders]]:
    if name != SYNTHESISED:
        return [lambda: closed_form(name, tasks, microbatches)]
    seconds = {t.number: sum(costs.duration(op, t.device) for op in t.ops) for t in tasks}
    wait = _Waits(tasks, costs.delay)
    return [lambda ahead=ahead: synthesise(tasks, microbatches, seconds, wait, ahead) for ahead in (1, 2)]  # type: ignore[misc]


class _Waits:
    """Seconds between the end of a task and the start of another, for what goes between their devices."""

    def __init__(self, tasks: Sequence[Task], delay: Delay) -> None:
        self._known: dict[tuple[int, int], float] = {}
        maker: dict[Op, Task] = {op: task for task in tasks for op in task.ops}
        for task in tasks:
            for value in dict.fromkeys(v for op in task.ops for v in op.inputs if v.producer is not None):
                source = maker[value.producer]  # type: ignore[index]
                if source.device != task.device:
                    key, seconds = (source.number, task.number), delay(value, source.device, task.device)
                    self._known[key] = max(self._known.get(key, 0.0), seconds)

    def __call__(self, source: Task, target: Task) -> float:
        return self._known.get((source.number, target.number), 0.0)
