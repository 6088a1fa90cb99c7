"""Predicted beside measured: timelines of the same programs, instruction by instruction and op by op."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Accumulate, Instruction, Run, Send, Update
from torchplace.compiler.program import Program
from torchplace.placement.cost.families import family_of, kind_of
from torchplace.placement.cost.features import features
from torchplace.placement.report.account import Account
from torchplace.placement.timeline import Timeline

BESIDE = "(beside the ops)"
"""Stands for a family: what segments take that none of their ops does."""


@dataclass(frozen=True)
class Pair:
    """Seconds, predicted and measured."""

    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Predicted less measured: below 0 where the prediction is too short."""
        return self.predicted - self.measured


@dataclass(frozen=True)
class Ran:
    """A program that ran in a step, predicted and measured.

    Attributes:
        program: the program.
        graph: that it was lowered from.
        predicted: what the simulator says of it.
        measured: what a runtime did, one timeline for each step.
        costs: op name -> seconds that it was predicted to take alone, on the device that it is on.
        beside: seconds that were predicted for each segment beside its ops.
        ops: segment -> seconds of each of its ops, and what it takes beside them, measured in steps of their own in
            which the clock is read behind each op; empty where that was not done.
    """

    program: Program
    graph: Graph
    predicted: Timeline
    measured: Sequence[Timeline]
    costs: Mapping[str, float]
    beside: float = 0.0
    ops: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @cached_property
    def accounts(self) -> tuple[Account, list[Account]]:
        """Where the predicted time goes, and where the measured went, for each step."""
        return Account(self.program, self.predicted, False), [Account(self.program, t, True) for t in self.measured]

    @cached_property
    def named(self) -> dict[str, Op]:
        """The graph's ops by name."""
        return {op.name: op for op in self.graph.ops}

    @cached_property
    def writers(self) -> dict[str, Op]:
        """State -> the op that writes it, where an update does."""
        return {state: op for op in self.graph.ops for state in op.mutates}


@dataclass(frozen=True)
class Aligned:
    """One instruction, predicted and measured.

    Attributes:
        part: which of the programs of the step it belongs to.
        device: whose it is.
        instruction: what is done.
        what: the same for people.
        predicted: seconds that it keeps its device; of a send, that the value is under way.
        measured: the median of the steps; of a send, from the hand-over to when the receiver, which waited, has the
            value, and None where the receiver did not wait: then nothing tells.
    """

    part: int
    device: str
    instruction: Instruction
    what: str
    predicted: float
    measured: float | None

    @property
    def error(self) -> float:
        """Predicted less measured, in seconds; 0 where nothing was measured."""
        return 0.0 if self.measured is None else self.predicted - self.measured


@dataclass(frozen=True)
class Family:
    """Ops that are alike (`cost.families`), in all segments of a step.

    Attributes:
        name: of the family: the op's target.
        kind: products, elementwise, copies...
        count: how many ops.
        time: their seconds.
    """

    name: str
    kind: str
    count: int
    time: Pair


def align(ran: Sequence[Ran]) -> list[Aligned]:
    """Every run, update, accumulation and send of a step, in program order, device by device."""
    return [aligned for part, one in enumerate(ran) for aligned in _aligned(part, one)]


def _aligned(part: int, ran: Ran) -> Iterator[Aligned]:
    predicted, measured = ran.accounts
    for device, lane in predicted.lanes.items():
        others = [{step.at: step.event for step in account.lanes[device].steps} for account in measured]
        for at, event in lane.steps:
            times = [found[at].end - found[at].start for found in others]
            yield Aligned(
                part, device, event.instruction, describe(ran, event.instruction), event.end - event.start,
                statistics.median(times),
            )  # fmt: skip
    yield from _sends(part, ran)


def _sends(part: int, ran: Ran) -> Iterator[Aligned]:
    taken: dict[tuple[str, int], list[float]] = {}
    for account in ran.accounts[1]:
        for lane in account.lanes.values():
            for wait in lane.waits:
                taken.setdefault((wait.source, wait.send_at), []).append(wait.arrived - wait.sent)
    sent = Counter[tuple[str, Instruction]]()
    places: dict[tuple[str, Instruction], list[int]] = {}
    for device, instructions in ran.program.instructions.items():
        for at, i in enumerate(instructions):
            if isinstance(i, Send):
                places.setdefault((device, i), []).append(at)
    for event in ran.predicted.events:
        if isinstance(event.instruction, Send):
            key = event.device, event.instruction
            times = taken.get((event.device, places[key][sent[key]]))
            sent[key] += 1
            measured = statistics.median(times) if times else None
            yield Aligned(
                part, event.device, event.instruction, describe(ran, event.instruction), event.end - event.start,
                measured,
            )  # fmt: skip


def describe(ran: Ran, instruction: Instruction) -> str:
    """An instruction in a few words: of a segment, how many ops of which modules."""
    if not isinstance(instruction, Run):
        return str(instruction)
    ops = [ran.named[name] for name in ran.program.segments[instruction.segment].ops]
    modules = list(dict.fromkeys(op.module for op in ops if op.module))
    where = "" if not modules else f", {modules[0]}" if len(modules) == 1 else f", {modules[0]} to {modules[-1]}"
    phases = ", ".join(dict.fromkeys(op.phase for op in ops))
    return f"run {instruction.segment}: {len(ops)} op{'s' * (len(ops) != 1)}{where} ({phases})"


def families(ran: Sequence[Ran], aligned: Iterable[Aligned]) -> list[Family]:
    """What the ops took, family by family; those with the largest error first.

    The seconds of a segment, in both timelines, are split over its ops: the predicted ones in proportion to what the
    cost model says of each alone, the measured ones to what each took where the clock was read behind every op
    (`Ran.ops`), or, where that was not done, to what the cost model says, too. What a segment takes beside its ops is a
    family of its own (`BESIDE`).
    """
    kinds: dict[str, str] = {BESIDE: ""}
    count = Counter[str]()
    predicted, measured = Counter[str](), Counter[str]()
    for one in aligned:
        if isinstance(one.instruction, (Send, Accumulate)) or one.measured is None:
            continue
        found = ran[one.part]
        ops = _ops(found, one.instruction)
        costs = [found.costs[op.name] for op in ops]
        clocked = found.ops.get(one.instruction.segment) if isinstance(one.instruction, Run) else None
        shares = zip(
            [*map(_family, ops), (BESIDE, "")],
            _shares([*costs, found.beside], one.predicted),
            _shares([*costs, found.beside] if clocked is None else clocked, one.measured),
            strict=True,
        )
        for (name, kind), p, m in shares:
            kinds[name] = kind
            count[name] += name != BESIDE
            predicted[name] += p  # type: ignore[assignment]
            measured[name] += m  # type: ignore[assignment]
    rows = [Family(n, kind, count[n], Pair(predicted[n], measured[n])) for n, kind in kinds.items()]
    return sorted(rows, key=lambda row: -abs(row.time.error))


def _ops(ran: Ran, instruction: Instruction) -> list[Op]:
    if isinstance(instruction, Run):
        return [ran.named[name] for name in ran.program.segments[instruction.segment].ops]
    if isinstance(instruction, Update):
        return [ran.writers[instruction.state]]
    return []


def _family(op: Op) -> tuple[str, str]:
    found = features(op)
    return family_of(op.target, found), kind_of(op.target, found)


def _shares(parts: Sequence[float], whole: float) -> list[float]:
    """A whole in proportion to its parts; all of it to the last one, where they are nothing."""
    total = sum(parts)
    return [whole * part / total for part in parts] if total else [*[0.0] * (len(parts) - 1), whole]
