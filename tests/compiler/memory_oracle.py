"""How many bytes a device holds, found by letting Python's own reference counts do it: shares no code with the ledger.

A storage is an object; what an instruction or an op makes, it makes; what it drops, it drops. Bytes are those of the
objects that are alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakSet

from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Run
from torchplace.compiler.program import Program


class Storage:
    def __init__(self, nbytes: int, alive: WeakSet[Storage]) -> None:
        self.nbytes = nbytes
        alive.add(self)


class Meter:
    """Live storages of one device, and the most bytes that they ever were."""

    def __init__(self, workspace: Callable[[Op], int] = lambda op: 0, standing: int = 0) -> None:
        self.alive: WeakSet[Storage] = WeakSet()
        self.workspace, self.standing, self.most = workspace, standing, 0

    def new(self, nbytes: int) -> Storage:
        return Storage(nbytes, self.alive)

    def look(self, more: int = 0) -> None:
        self.most = max(self.most, self.standing + sum(s.nbytes for s in self.alive) + more)

    def do(self, program: Program, graph: Graph, device: str, env: Env) -> None:
        """Do a device's list."""
        steps = program.instructions.get(device, [])
        self.look()
        for i, step in enumerate(steps):
            if isinstance(step, Run):
                _run(program, graph, step, _frees_next(steps[i + 1 :]), env, self)
            elif isinstance(step, Recv):
                env[step.value, step.microbatch] = self.new(_own(program, step.value))
            elif isinstance(step, Accumulate):
                env.setdefault((step.into, 0), self.new(_own(program, step.into)))
            elif isinstance(step, Free):
                env.pop((step.value, step.microbatch), None)
            self.look()


Env = dict[tuple[str, int], Storage]


def most_alive(program: Program, graph: Graph, device: str, workspace: Callable[[Op], int] = lambda op: 0) -> int:
    """Bytes that are alive on a device at most while its list is done, ops of segments one by one."""
    meter = Meter(workspace, sum(program.background.get(device, {}).values()))
    env, _held_by_caller = _at_the_start(program, device, meter)
    meter.do(program, graph, device, env)
    return meter.most


def most_alive_in_a_step(
    programs: Sequence[Program], parts: Sequence[Graph], device: str, workspace: Callable[[Op], int]
) -> int:
    """Likewise for programs one after the other; what is saved goes from one to the next, the caller holds its own."""
    meter = Meter(workspace)
    owned = {n: p for p in programs for n, e in p.inputs.items() if e.resident and e.device == device}
    state = {n: meter.new(_size(p, parts, n)) for n, p in owned.items()}
    caller: list[Storage] = []
    saved: dict[str, Storage] = {}
    for program, graph in zip(programs, parts, strict=True):
        env: Env = {}
        for value in graph.inputs:
            if program.inputs[value.name].device == device:
                new = state.get(value.name) or saved.pop(value.name, None) or meter.new(value.nbytes)
                env[value.name, 0] = new
                caller += [new] * (value.kind == "input")
                del new
        saved.clear()
        meter.do(program, graph, device, env)
        for output, exit_ in zip(graph.outputs, program.outputs, strict=True):
            if exit_.value is not None and exit_.device == device:
                if output.kind == "output":
                    caller.append(env[exit_.value, 0])
                elif output.kind == "saved":
                    saved[exit_.value] = env[exit_.value, 0]
    return meter.most


def _size(program: Program, parts: Sequence[Graph], name: str) -> int:
    return next(v.nbytes for part in parts for v in part.inputs if v.name == name)


def _own(program: Program, name: str) -> int:
    slot = program.values[name]
    return slot.nbytes if slot.span is None else slot.span


def _at_the_start(program: Program, device: str, meter: Meter) -> tuple[Env, list[Storage]]:
    shared: dict[str, Storage] = {}
    env, held = {}, []
    for name, entry in program.inputs.items():
        if entry.device == device:
            base = program.values[name].base or name
            if base not in shared:
                shared[base] = meter.new(_own(program, base))
            env[name, 0] = shared[base]
            held += [shared[base]] * entry.lent
    return env, held


def _frees_next(steps: list[Instruction]) -> set[tuple[str, int]]:
    found = set()
    for step in steps:
        if not isinstance(step, Free):
            break
        found.add((step.value, step.microbatch))
    return found


def _run(program: Program, graph: Graph, run: Run, freed: set[tuple[str, int]], env: Env, meter: Meter) -> None:
    k = run.microbatch
    local = {}
    for name in run.inputs:
        key = (name, k) if (name, k) in env else (name, 0)
        local[name] = env.pop(key) if key in freed else env[key]
    ops = [next(op for op in graph.ops if op.name == name) for name in program.segments[run.segment].ops]
    for i, op in enumerate(ops):
        for value in op.outputs:
            local[value.name] = meter.new(value.nbytes) if value.base is None else local[value.base]
        meter.look(meter.workspace(op))
        needed = {v.name for later in ops[i + 1 :] for v in later.inputs} | set(run.outputs)
        for name in [n for n in local if n not in needed]:
            del local[name]
    env.update(((name, k), local[name]) for name in run.outputs)
