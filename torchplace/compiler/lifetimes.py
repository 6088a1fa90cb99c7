"""How long values live: where a program frees them, and how many bytes are live at any time."""

from __future__ import annotations

from collections.abc import Container, Sequence

from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Reduce, Run, Send, Update
from torchplace.compiler.program import Entry, Program

Instance = tuple[str, int]
"""A value of a micro-batch."""


def uses(instruction: Instruction, shared: Container[str] = ()) -> tuple[Instance, ...]:
    """What an instruction needs to be on its device.

    Args:
        instruction: any.
        shared: names of what all micro-batches use alike (`Boundary.shared`); it counts as the first one's.
    """
    k = instruction.microbatch
    match instruction:
        case Run():
            return tuple((v, 0 if v in shared else k) for v in instruction.inputs)
        case Update():
            state = instruction.state
            return ((state, 0 if state in shared else k), (instruction.value, k))
        case Send() | Accumulate() | Reduce() | Free():
            return ((instruction.value, k),)
        case Recv():
            return ()


def makes(instruction: Instruction) -> tuple[Instance, ...]:
    """What is on its device after an instruction that was not there before."""
    k = instruction.microbatch
    match instruction:
        case Run():
            return tuple((v, k) for v in instruction.outputs)
        case Recv():
            return ((instruction.value, k),)
        case Accumulate():
            return ((instruction.into, 0),)
        case _:
            return ()


def active_devices(program: Program) -> tuple[str, ...]:
    """The devices that compute something: the others hold, send or receive at most."""
    return tuple(
        device
        for device, instructions in program.instructions.items()
        if any(isinstance(i, (Run, Update, Accumulate)) for i in instructions)
    )


class Boundary:
    """What each device of a program starts with and ends with, looked up once for walks over all devices.

    Attributes:
        entries: device -> the inputs that start there.
        exits: device -> the outputs that end there.
        shared: names of the state, which all micro-batches use alike.

    Cost: linear in inputs and outputs.
    """

    def __init__(self, program: Program) -> None:
        """Sort the inputs and outputs of `program` by device."""
        self.entries: dict[str, list[tuple[str, Entry]]] = {}
        self.exits: dict[str, list[Instance]] = {}
        self.shared = frozenset(name for name, entry in program.inputs.items() if entry.resident)
        self._all = range(program.microbatches)
        for name, entry in program.inputs.items():
            self.entries.setdefault(entry.device, []).append((name, entry))
        for end in program.outputs:
            if end.value is not None:
                self.exits.setdefault(end.device, []).extend((end.value, k) for k in program.instances(end))

    def resident(self, device: str) -> set[str]:
        """Names of the state that lives on a device."""
        return {name for name, entry in self.entries.get(device, ()) if entry.resident}

    def kept(self, device: str) -> set[Instance]:
        """What a device still holds when the program ends: state that lives there, and outputs that end there."""
        return {*((name, 0) for name in self.resident(device)), *self.exits.get(device, ())}

    def held(self, device: str) -> list[tuple[Instance, Entry]]:
        """What a device holds when the program starts."""
        entries = self.entries.get(device, ())
        return [((name, k), entry) for name, entry in entries for k in (self._all if entry.each else (0,))]


def insert_frees(program: Program) -> None:
    """Free every value behind its last use on each device, in place. Cost: linear."""
    boundary = Boundary(program)
    for device, instructions in program.instructions.items():
        keep, resident = boundary.kept(device), boundary.resident(device)
        last = {instance: -1 for instance, _ in boundary.held(device)}
        for i, instruction in enumerate(instructions):
            for instance in (*uses(instruction, boundary.shared), *makes(instruction)):
                last[instance] = i
        ends: dict[int, list[Instruction]] = {}
        for (value, k), i in last.items():
            if (value, k) not in keep and value not in resident:  # every micro-batch uses the same state
                ends.setdefault(i, []).append(Free(value, k))
        program.instructions[device] = ends.get(-1, []) + [
            step for i, instruction in enumerate(instructions) for step in (instruction, *ends.get(i, ()))
        ]


def freed_behind(instructions: Sequence[Instruction], at: int) -> set[Instance]:
    """What a row of frees behind the instruction at an index drops: a run may drop it after its last use."""
    freed = set()
    while at + 1 < len(instructions) and isinstance(free := instructions[at + 1], Free):
        freed.add((free.value, free.microbatch))
        at += 1
    return freed


class Ledger:
    """Live bytes of one device while a program's instructions are walked, storages counted once.

    What a segment needs inside is written on it (`Segment.peak`), what it drops before its end included; so a run and
    the frees behind it count as one. `footprint.Footprint` looks inside.
    """

    def __init__(self, program: Program, device: str, boundary: Boundary | None = None) -> None:
        """Start with the inputs that are on `device` at the start, and what stands there all the time.

        Who walks over all devices gives the program's `boundary`, which is then not made for each of them.
        """
        self.program, self.device = program, device
        self.live = sum(program.background.get(device, {}).values())
        self._storage: dict[Instance, Instance] = {}
        self._holders: dict[Instance, int] = {}
        for instance, entry in (boundary or Boundary(program)).held(device):
            self._enter(instance, entry)
        self.highest = self.live

    def _enter(self, instance: Instance, entry: Entry) -> None:
        name, k = instance
        slot = self.program.values.get(name)
        root = instance if slot is None or slot.base is None else (slot.base, k)
        self._hold(instance, root)
        if entry.lent:
            self._holders[root] += 1  # the caller, who never lets go

    @property
    def peak(self) -> int:
        """Bytes that were live at most so far."""
        return max(self.highest, self.live)

    def step(self, instruction: Instruction) -> int:
        """Account for one instruction; returns the bytes that were live at most during it."""
        high = self.live
        if isinstance(instruction, Run):
            high += self.program.segments[instruction.segment].peak
        for instance in makes(instruction):
            self._hold(instance, self._root(instance, instruction))
        if isinstance(instruction, Free):
            self._drop((instruction.value, instruction.microbatch))
            return self.live
        high = high if isinstance(instruction, Run) else max(high, self.live)
        self.highest = max(self.highest, high)
        return high

    def _root(self, instance: Instance, instruction: Instruction) -> Instance:
        slot = self.program.values.get(instance[0])
        if slot is None or slot.base is None or not isinstance(instruction, Run):
            return instance
        return self._storage.get((slot.base, instance[1]), self._of_state(slot.base, instance[1]))

    def _of_state(self, name: str, microbatch: int) -> Instance:
        """The instance of a name in a micro-batch: all of them use the same state."""
        entry = self.program.inputs.get(name)
        return (name, 0 if entry is not None and entry.resident else microbatch)

    def _hold(self, instance: Instance, root: Instance) -> None:
        if instance in self._storage:
            return
        self._storage[instance] = root
        self._holders[root] = self._holders.get(root, 0) + 1
        if self._holders[root] == 1:
            self.live += self._bytes(root)

    def _drop(self, instance: Instance) -> None:
        root = self._storage.pop(instance, None)
        if root is not None:
            self._holders[root] -= 1
            self.live -= self._bytes(root) if self._holders[root] == 0 else 0

    def _bytes(self, root: Instance) -> int:
        slot = self.program.values.get(root[0])
        return 0 if slot is None else slot.memory


def peak_memory(program: Program) -> dict[str, int]:
    """Device -> bytes that are live on it at most. Cost: linear in the instructions."""
    peaks, boundary = {}, Boundary(program)
    for device in program.devices:
        ledger = Ledger(program, device, boundary)
        for instruction in program.instructions.get(device, ()):
            ledger.step(instruction)
        peaks[device] = ledger.peak
    return peaks
