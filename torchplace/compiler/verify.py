"""Checks a Program before anything runs, and reports every fault at once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Reduce, Run, Send, Update
from torchplace.compiler.lifetimes import Boundary, Instance, makes, peak_memory, uses
from torchplace.compiler.program import Program
from torchplace.errors import ProgramError


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a program.

    Attributes:
        kind: `malformed`, `undefined`, `redefined`, `double-free`, `leak`, `unmatched`, `deadlock` or `capacity`.
        device: where.
        line: index in the device's list; -1 when it is about the whole list.
        message: what is wrong, with the names and numbers.
    """

    kind: str
    device: str
    line: int
    message: str

    def __str__(self) -> str:
        at = f"{self.device}, instruction {self.line}" if self.line >= 0 else self.device
        return f"{self.kind} at {at}: {self.message}"


def verify(program: Program, capacity: Mapping[str, int] | None = None) -> None:
    """Check that a program can run, to its end, and leaves nothing behind.

    Args:
        program: the program.
        capacity: device -> bytes; a device that it does not name has no limit.

    Raises:
        ProgramError: lists every fault.
    """
    faults = find_faults(program, capacity or {})
    if faults:
        shown = "\n".join(f"  {fault}" for fault in faults[:20])
        more = f"\n  ... and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise ProgramError(f"program {program.name!r} has {len(faults)} fault(s):\n{shown}{more}")


def find_faults(program: Program, capacity: Mapping[str, int]) -> list[Fault]:
    """Every fault of a program; an empty list when it is sound. Cost: linear in the instructions."""
    if malformed := [*_malformed(program)]:
        return malformed
    boundary = Boundary(program)
    faults = [f for device in program.devices for f in _lifetimes(program, device, boundary)]
    faults += _unmatched(program) or _deadlock(program)
    return faults + _over_capacity(program, capacity)


def _malformed(program: Program) -> Iterator[Fault]:
    """Names that lead nowhere: later checks rely on them."""
    known = set(program.devices)
    if program.microbatches < 1:
        yield Fault("malformed", "", -1, f"has {program.microbatches} micro-batches; expected 1 or more")
    for device in program.instructions:
        if device not in known:
            yield Fault("malformed", device, -1, f"is no device of the program; expected one of {program.devices}")
    for name, entry in program.inputs.items():
        if entry.device not in known:
            yield Fault("malformed", entry.device, -1, f"input %{name} starts on an unknown device")
        if name not in program.values:
            yield Fault("malformed", entry.device, -1, f"the program has no value %{name}, which it takes")
    for device in program.background.keys() - known:
        yield Fault("malformed", device, -1, "has a background, and is no device of the program")
    for end in program.outputs:
        if end.value is not None and end.device not in known:
            yield Fault("malformed", end.device, -1, f"output %{end.value} ends on an unknown device")
    for device, instructions in program.instructions.items():
        for i, instruction in enumerate(instructions):
            if problem := _problem(program, known, device, instruction):
                yield Fault("malformed", device, i, f"'{instruction}': {problem}")


def _problem(program: Program, devices: set[str], device: str, instruction: Instruction) -> str:
    for name, _ in (*uses(instruction), *makes(instruction)):
        if name not in program.values:
            return f"the program has no value %{name}"
    match instruction:
        case Run():
            return _segment_problem(program, device, instruction)
        case Update():
            return "" if instruction.state in program.inputs else f"%{instruction.state} is no input of the program"
        case Send() | Recv():
            other = instruction.to if isinstance(instruction, Send) else instruction.source
            known = other in devices and other != device
            return "" if known else f"{other!r} is no other device of the program"
        case Reduce():
            return _group_problem(devices, device, instruction.group)
        case _:
            return ""


def _segment_problem(program: Program, device: str, run: Run) -> str:
    segment = program.segments.get(run.segment)
    if segment is None:
        return f"there is no segment {run.segment!r}"
    return "" if segment.device == device else f"the segment belongs to {segment.device}"


def _group_problem(devices: set[str], device: str, group: tuple[str, ...]) -> str:
    unknown = [name for name in group if name not in devices]
    if unknown:
        return f"{unknown[0]!r} is no device of the program"
    return "" if device in group else "the group does not have this device"


def _lifetimes(program: Program, device: str, boundary: Boundary) -> Iterator[Fault]:
    """Use before definition, double free and leak, on one device."""
    held = {instance for instance, _ in boundary.held(device)}
    freed: set[Instance] = set()
    for i, instruction in enumerate(program.instructions.get(device, ())):
        for instance in uses(instruction, boundary.shared):
            if instance not in held:
                yield _missing(instance, instruction, device, i, instance in freed)
        if isinstance(instruction, Free):
            gone = (instruction.value, instruction.microbatch)
            held.discard(gone)
            freed.add(gone)
        for instance in makes(instruction):
            if instance in held and not isinstance(instruction, Accumulate):
                yield Fault("redefined", device, i, f"'{instruction}': {_text(instance)} is still held; free it first")
            held.add(instance)
            freed.discard(instance)
    yield from _at_the_end(program, device, boundary.kept(device), held, freed)


def _at_the_end(
    program: Program, device: str, keep: set[Instance], held: set[Instance], freed: set[Instance]
) -> Iterator[Fault]:
    """What a device holds and should not, and what it should hold and does not."""
    for instance in sorted(held - keep):
        yield Fault("leak", device, -1, f"{_text(instance)} is still held at the end; free it")
    for instance in sorted(keep - held):
        entry = program.inputs.get(instance[0])
        what = "state" if entry is not None and entry.resident and entry.device == device else "output"
        why = "has been freed" if instance in freed else "is never made there"
        yield Fault("undefined", device, -1, f"{what} {_text(instance)} {why}")


def _missing(instance: Instance, instruction: Instruction, device: str, i: int, freed: bool) -> Fault:
    if freed and isinstance(instruction, Free):
        return Fault("double-free", device, i, f"'{instruction}': {_text(instance)} has been freed before")
    why = "has been freed" if freed else "is not on this device yet"
    return Fault("undefined", device, i, f"'{instruction}': {_text(instance)} {why}")


def _text(instance: Instance) -> str:
    name, k = instance
    return f"%{name} @{k}" if k else f"%{name}"


Message = tuple[str, str, str, int]


def _unmatched(program: Program) -> list[Fault]:
    """Sends without a receive, and receives without a send."""
    sent: Counter[Message] = Counter()
    taken: Counter[Message] = Counter()
    for device, i in program:
        if isinstance(i, Send):
            sent[device, i.to, i.value, i.microbatch] += 1
        elif isinstance(i, Recv):
            taken[i.source, device, i.value, i.microbatch] += 1
    faults = [
        Fault("unmatched", s, -1, f"{_text((v, k))} is sent to {t} but never received there")
        for s, t, v, k in sent - taken
    ]
    return faults + [
        Fault("unmatched", t, -1, f"{_text((v, k))} is received from {s}, which never sends it")
        for s, t, v, k in taken - sent
    ]


def _deadlock(program: Program) -> list[Fault]:
    """Let every device go as far as it can, as if a send waited for its receive (the strictest transport's rule)."""
    at = dict.fromkeys(program.devices, 0)
    lists = {d: program.instructions.get(d, []) for d in program.devices}
    awake = deque(program.devices)
    while awake:
        device = awake.popleft()
        while at[device] < len(lists[device]):
            partners = _meeting(program, lists, at, device)
            if partners is None:
                break
            for partner in partners:
                at[partner] += 1
            awake.extend(p for p in partners if p != device)
    return [Fault("deadlock", d, at[d], f"'{lists[d][at[d]]}' waits for ever") for d in at if at[d] < len(lists[d])]


def _meeting(
    program: Program, lists: Mapping[str, list[Instruction]], at: Mapping[str, int], device: str
) -> tuple[str, ...] | None:
    """The devices that can step together now, `device` among them; None when it has to wait."""
    now = lists[device][at[device]]
    if isinstance(now, (Send, Recv)):
        other = now.to if isinstance(now, Send) else now.source
        expected: Instruction = (
            Recv(now.value, device, now.microbatch)
            if isinstance(now, Send)
            else Send(now.value, device, now.microbatch)
        )
        return (device, other) if _stands_at(lists, at, other, expected) else None
    if isinstance(now, Reduce):
        return now.group if all(_stands_at(lists, at, d, now) for d in now.group) else None
    return (device,)


def _stands_at(
    lists: Mapping[str, list[Instruction]], at: Mapping[str, int], device: str, expected: Instruction
) -> bool:
    return at[device] < len(lists[device]) and lists[device][at[device]] == expected


def _over_capacity(program: Program, capacity: Mapping[str, int]) -> list[Fault]:
    peaks = peak_memory(program)
    return [
        Fault("capacity", d, -1, f"needs {peaks[d]} bytes at its peak, has {limit}: {peaks[d] - limit} too few")
        for d, limit in capacity.items()
        if d in peaks and peaks[d] > limit
    ]
