"""What a program's memory is at each op: segments looked into, one op after the other.

Memory is counted as the runtime takes it: an op's inputs are there while it runs, its results come, then whatever it
was the last to use goes. A view stands in the memory of what it views, and keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Free, Run
from torchplace.compiler.lifetimes import Boundary, Instance, Ledger, freed_behind, makes
from torchplace.compiler.program import Program

Workspace = Callable[[Op, str], int]
"""Bytes that an op takes while it runs on a device, beyond its inputs and results, and gives back."""

TEMPORARY = "temporaries"
"""What is nothing else: results that only wait for their use, received copies, workspaces."""


def no_workspace(op: Op, device: str) -> int:
    """No op needs more than its results."""
    return 0


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment at which most bytes are live on a device.

    Attributes:
        nbytes: how many.
        op: the op that runs then; "" before the first, and while something is received or accumulated.
        parts: what they are -> bytes; they add up to `nbytes`.
    """

    nbytes: int
    op: str = ""
    parts: dict[str, int] = field(default_factory=dict)


class _Known(NamedTuple):
    """What is looked up once for all devices: ops by name, values' bytes of memory, what devices start and end with."""

    ops: dict[str, Op]
    sizes: dict[str, int]
    boundary: Boundary

    @classmethod
    def of(cls, program: Program, graph: Graph) -> _Known:
        sizes = {v.name: v.storage_bytes for v in graph.inputs}
        sizes.update((v.name, v.storage_bytes) for op in graph.ops for v in op.outputs)
        return cls({op.name: op for op in graph.ops}, sizes, Boundary(program))


def measure_segments(program: Program, graph: Graph, workspace: Workspace = no_workspace) -> None:
    """Write on every segment what it needs at most, in place: beyond what is live when it starts.

    Where a segment runs for several micro-batches, it is the most that one of them needs.

    Args:
        program: lowered from `graph`, frees inserted.
        graph: the ops.
        workspace: bytes that an op takes and gives back.

    Cost: linear in the instructions and ops.
    """
    known, peaks = _Known.of(program, graph), dict.fromkeys(program.segments, 0)
    for device in program.devices:
        for run, before, high in Footprint(program, device, known, workspace).segments():
            peaks[run.segment] = max(peaks[run.segment], high - before)
    for name, peak in peaks.items():
        program.segments[name] = replace(program.segments[name], peak=peak)


def find_peaks(
    program: Program, graph: Graph, kinds: Mapping[str, str], workspace: Workspace = no_workspace
) -> dict[str, Peak]:
    """Device -> its peak, taken apart.

    Args:
        program: lowered from `graph`.
        graph: the ops.
        kinds: value name -> what the memory that it stands in is called (`TEMPORARY` where it says nothing). Of
            several values in the same memory, the one that comes first in this mapping decides.
        workspace: bytes that an op takes and gives back.

    Cost: linear; the program is walked twice.
    """
    known, rank = _Known.of(program, graph), {name: i for i, name in enumerate(kinds)}

    def find(device: str) -> Peak:
        first = Footprint(program, device, known, workspace)
        high, at, op = first.live, 0, ""
        for moment, (name, nbytes) in enumerate(first.moments(), start=1):
            if nbytes > high:
                high, at, op = nbytes, moment, name
        again = Footprint(program, device, known, workspace)
        moments = again.moments()
        for _ in range(at):
            next(moments)
        deciding = {root: min(names, key=lambda n: rank.get(n, len(rank))) for root, names in first.names.items()}
        named = {root: kinds.get(name, TEMPORARY) for root, name in deciding.items()}
        return Peak(high, op, _parts(again, high, named))

    return {device: find(device) for device in program.devices}


def _parts(footprint: Footprint, high: int, named: Mapping[Instance, str]) -> dict[str, int]:
    parts = dict(footprint.program.background.get(footprint.device, {}))
    for root, nbytes in footprint.storages():
        what = named.get(root, TEMPORARY)
        parts[what] = parts.get(what, 0) + nbytes
    workspace = high - sum(parts.values())
    parts[TEMPORARY] = parts.get(TEMPORARY, 0) + workspace
    return {what: nbytes for what, nbytes in parts.items() if nbytes}


class Footprint(Ledger):
    """A ledger that walks a device's whole list itself, op by op.

    Attributes:
        names: storage -> names of the values that have stood in it.
    """

    def __init__(self, program: Program, device: str, known: _Known, workspace: Workspace) -> None:
        """Prepare to walk the list of `device`."""
        self.names: dict[Instance, set[str]] = {}
        self._known, self._workspace = known, workspace
        super().__init__(program, device, known.boundary)

    def moments(self) -> Iterator[tuple[str, int]]:
        """(Op or "", bytes that are live at most while it runs), in order; then what it frees is dropped."""
        instructions = self.program.instructions.get(self.device, [])
        for i, instruction in enumerate(instructions):
            if isinstance(instruction, Run):
                yield from self._run(instruction, freed_behind(instructions, i))
            elif isinstance(instruction, Free):
                self._drop((instruction.value, instruction.microbatch))
            else:
                for instance in makes(instruction):
                    self._hold(instance, instance)
                yield "", self.live

    def segments(self) -> Iterator[tuple[Run, int, int]]:
        """(Run, bytes that are live before it, bytes that are live at most during it), in order."""
        instructions = self.program.instructions.get(self.device, [])
        for i, instruction in enumerate(instructions):
            if isinstance(instruction, Run):
                before = self.live
                moments = self._run(instruction, freed_behind(instructions, i))
                yield instruction, before, max((nbytes for _, nbytes in moments), default=before)
            else:
                self.step(instruction)

    def storages(self) -> Iterator[tuple[Instance, int]]:
        """Every storage that is held now, and its bytes."""
        return ((root, self._bytes(root)) for root, holders in self._holders.items() if holders)

    def _run(self, run: Run, freed: set[Instance]) -> Iterator[tuple[str, int]]:
        """The moments of a segment's ops."""
        k = run.microbatch
        ops = [self._known.ops[name] for name in self.program.segments[run.segment].ops]
        stays = {*run.outputs, *(v for v in run.inputs if (v, k) not in freed)}
        dying = _last_uses(ops, stays)
        for op, last in zip(ops, dying, strict=True):
            for value in op.outputs:
                self._hold((value.name, k), self._base((value.name if value.base is None else value.base), k))
            yield op.name, self.live + self._workspace(op, self.device)
            for name in last:
                self._drop((name, k))

    def _base(self, name: str, microbatch: int) -> Instance:
        """The storage of a value that is there; of one that is not, its own."""
        found = self._storage.get((name, microbatch)) or self._storage.get(self._of_state(name, microbatch))
        return found or (name, microbatch)

    def _hold(self, instance: Instance, root: Instance) -> None:
        self.names.setdefault(root, set()).add(instance[0])
        super()._hold(instance, root)

    def _bytes(self, root: Instance) -> int:
        slot = self.program.values.get(root[0])
        return self._known.sizes.get(root[0], 0) if slot is None else slot.memory


def _last_uses(ops: list[Op], stays: set[str]) -> list[list[str]]:
    """For each op, the values that nothing behind it needs, as a kernel drops them."""
    last: dict[str, int] = {}
    for i, op in enumerate(ops):
        for value in (*op.inputs, *op.outputs):
            if value.name not in stays:
                last[value.name] = i
    ending: list[list[str]] = [[] for _ in ops]
    for name, i in last.items():
        ending[i].append(name)
    return ending
