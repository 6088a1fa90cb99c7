"""From a schedule's table to the order in which devices do the tasks of a graph."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from torchplace.compiler.graph import Phase
from torchplace.compiler.schedule.action import Action
from torchplace.compiler.schedule.registry import schedule_table
from torchplace.compiler.tasks import PHASES, Item, Task, Waiting, stages, visits

Orders = dict[str, list[Item]]
"""Device -> tasks and their micro-batches, in the order in which it does them."""


def closed_form(name: str, tasks: Sequence[Task], microbatches: int) -> Orders:
    """The order of a schedule that has a closed form.

    Its stages are the devices, in the order in which the forward pass comes to them first. A stage that is visited
    many times does all its tasks of a phase at a stretch; with `interleaved`, where all stages are visited equally
    often, each visit is a chunk. A device that has no forward task does its tasks micro-batch by micro-batch. Where
    a placement is no chain and devices would wait for each other, one of them goes on with what is ready (`runnable`).

    Args:
        name: one of `SCHEDULES`.
        tasks: of `make_tasks`.
        microbatches: of a step.

    Raises:
        OptionError: there is no such schedule.
    """
    tasks, counts = list(tasks), set(visits(list(tasks)).values())
    devices, chunks = stages(tasks), counts.pop() if name == "interleaved" and len(counts) == 1 else 1
    table = schedule_table(name, len(devices), microbatches, chunks)
    orders = {
        device: _row(row, [t for t in tasks if t.device == device], chunks)
        for device, row in zip(devices, table, strict=True)
    }
    for device in dict.fromkeys(t.device for t in tasks if t.device not in orders):
        mine = [t.number for t in tasks if t.device == device]
        orders[device] = [(number, k) for k in range(microbatches) for number in mine]
    return runnable(tasks, orders, microbatches)


def runnable(tasks: Sequence[Task], orders: Orders, microbatches: int) -> Orders:
    """The same orders where they can run to their end; else a device that would wait for ever does something else.

    Whenever nobody can go on in order, the task that is ready and nearest to its turn is taken before its turn.

    Cost: O(n log n) for n = tasks x micro-batches.
    """
    waiting = Waiting(tasks, microbatches)
    place = {item: (device, i) for device, order in orders.items() for i, item in enumerate(order)}
    ready: dict[str, list[int]] = {device: [] for device in orders}

    def offer(item: Item) -> None:
        device, i = place[item]
        heapq.heappush(ready[device], i)

    result: Orders = {device: [] for device in orders}
    ahead: dict[str, set[int]] = {device: set() for device in orders}  # done before their turn
    at = dict.fromkeys(orders, 0)

    def do(device: str) -> None:
        i = heapq.heappop(ready[device])
        item = orders[device][i]
        result[device].append(item)
        ahead[device].add(i)
        while at[device] in ahead[device]:
            at[device] += 1
        for then, _, is_ready in waiting.done(item):
            if is_ready:
                offer(then)

    for item in waiting.ready:
        offer(item)
    while any(ready.values()):
        moved = False
        for device in orders:
            while ready[device] and ready[device][0] == at[device]:
                do(device)
                moved = True
        if not moved:
            do(min((d for d in orders if ready[d]), key=lambda d: ready[d][0] - at[d]))
    return result


def _row(row: Sequence[Action], tasks: Sequence[Task], chunks: int) -> list[tuple[int, int]]:
    """What a device does: each action stands for its tasks of that phase, or for one of them where there are chunks."""
    numbers: dict[Phase, list[int]] = {phase: [t.number for t in tasks if t.phase == phase] for phase in PHASES}
    order: list[tuple[int, int]] = []
    backward: tuple[int, int] = (-1, -1)  # of the last action, if it was one: micro-batch, and where it stands
    for action in row:
        mine = numbers[action.phase]
        if chunks > 1 and len(mine) == chunks:
            mine = [mine[action.chunk if action.phase == "forward" else chunks - 1 - action.chunk]]
        elif chunks > 1 and action.chunk:
            mine = []  # all at once, with the first chunk
        at = len(order)
        order += [(number, action.microbatch) for number in mine]
        if action.phase == "weight-grad" and backward[0] == action.microbatch:  # at once: level by level
            order[backward[1] :] = sorted(order[backward[1] :])
        backward = (action.microbatch, at) if action.phase == "backward" else (-1, -1)
    return order
