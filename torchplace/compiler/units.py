"""Units: what a device does for a micro-batch without a break, and what that consists of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchplace.compiler.graph import Value
from torchplace.compiler.instructions import Run, Update
from torchplace.compiler.residence import Residence
from torchplace.compiler.tasks import Item, Task


@dataclass(frozen=True)
class Unit:
    """What a device does for a micro-batch without a break.

    Attributes:
        device: which.
        tasks: their numbers.
        microbatch: for which.
    """

    device: str
    tasks: tuple[int, ...]
    microbatch: int


@dataclass(frozen=True)
class Piece:
    """A part of what a unit does.

    Attributes:
        run: the instruction, for micro-batch 0.
        sums: gradients that are added up behind it, and the names of their sums.
    """

    run: Run
    sums: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Body:
    """What a unit does, in every micro-batch.

    Attributes:
        pieces: what it runs, one after the other; none if it only writes state.
        updates: state that is written behind them.
        hands_on: values of the caller's that leave before it, and to where.
        sends: values that leave behind it, and to where.
        after: tasks that it needs, not its own.
        behind: tasks whose micro-batch before must be done.
        seconds: that it takes.
    """

    pieces: tuple[Piece, ...]
    updates: tuple[Update, ...]
    hands_on: tuple[tuple[Value, str], ...]
    sends: tuple[tuple[Value, str], ...]
    after: tuple[int, ...]
    behind: tuple[int, ...]
    seconds: float


def join_units(
    device: str, order: Sequence[Item], tasks: Sequence[Task], residence: Residence, whole: bool
) -> Iterator[Unit]:
    """Make one of a backward and the weight gradients that follow it: nothing comes between tasks of one level.

    So their ops run in the order of the program, and activations are dropped as soon as eager drops them.

    Args:
        device: that does them.
        order: what it does, in turn.
        tasks: all, by number.
        residence: where values have to go.
        whole: also where another device waits for the backward.
    """
    held: list[int] = []
    last = -1
    for number, k in order:
        if held and not (k == last and _follows(tasks[held[-1]], tasks[number], tasks, residence, whole)):
            yield Unit(device, tuple(held), last)
            held = []
        held.append(number)
        last = k
    if held:
        yield Unit(device, tuple(held), last)


def _follows(first: Task, second: Task, tasks: Sequence[Task], residence: Residence, whole: bool) -> bool:
    """Whether a task can be one with that before it: then it makes it wait for nothing new."""
    if first.level != second.level or (first.phase, second.phase) != ("backward", "weight-grad"):
        return False
    if not whole and any(residence.others(v) for op in first.ops for v in op.outputs):
        return False
    return all(n in first.after or tasks[n].device == second.device for n in second.after)
