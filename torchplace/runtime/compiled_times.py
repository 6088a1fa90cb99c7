"""Times the segments of a plan as TorchInductor compiles them, for predictions of what it makes of them.

What an op takes there hangs on what it is fused with, so that nothing smaller than a segment can be timed; and which
segments there are is known when there is a plan. The search goes by what ops take one by one.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.instructions import Run
from torchplace.compiler.lifetimes import Instance, active_devices
from torchplace.compiler.program import Program
from torchplace.placement.cost.compiled import Compiled
from torchplace.placement.cost.signature import segment_key
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.plan import Plan
from torchplace.placement.planning import Request, finish, make_plan
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.accelerator import synchronize
from torchplace.runtime.executable import Executable
from torchplace.runtime.interpreter import Call, DeviceProgram, Env, Step
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.op_times import Inputs, is_here, pace_kept, timing, to_kept, undisturbed
from torchplace.runtime.progress import telling

Place = tuple[int, str]
"""A segment of a plan: number of its program, and its name there."""

ROUNDS = 4
"""How often the programs run to be timed, at least, behind a run that does not count."""

LEAST_SECONDS, SECONDS = 1.5, 10.0
"""For how long, at least and about at most."""


def plan_as_run(captured: Captured, request: Request) -> Plan:
    """Search a placement and make the plan, its prediction that of what will run (`planning.make_plan`)."""
    return as_run(captured, make_plan(captured, request), request, {})


def as_run(captured: Captured, plan: Plan, request: Request, fixed: Mapping[str, str]) -> Plan:
    """A plan whose prediction is that of segments as they are compiled, where its costs are measured ones.

    What the store of costs lacks is timed now: each program runs in this thread, one device after the other, on made up
    inputs.

    Args:
        captured: the graph.
        plan: how it is placed.
        request: what was asked; its cost learns what segments take (`Compiled`).
        fixed: input name -> device, of state that lives somewhere already.

    Returns:
        The plan itself where nothing is compiled, or a device is not here.

    Needs the memory of all devices' parts of a step, in this process.
    """
    cost = request.cost
    if not isinstance(cost, Compiled) or not all(is_here(d) for d in plan.topology.devices):
        return plan
    segments = _segments(captured, plan)
    known = _known(captured, plan, segments)
    for segment in segments:
        cost.learn(segment.ops, segment.device, max(0.0, known[segment.kept] - plan.topology.host.instruction))
    if request.pipelining is not None and plan.schedule:
        request = replace(request, pipelining=replace(request.pipelining, schedule=plan.schedule))
    return finish(request.evaluator(captured, fixed), plan.placement, request, plan.solver, plan.solve_time)


@dataclass(frozen=True)
class _Segment:
    """A segment of a plan.

    Attributes:
        place: number of its program, and its name there.
        ops: in order.
        device: where it runs.
        kept: what stands for it in the store: sort of device and key.
    """

    place: Place
    ops: list[Op]
    device: Device
    kept: tuple[DeviceKey, str]


def _segments(captured: Captured, plan: Plan) -> list[_Segment]:
    pairs = enumerate(zip(plan.programs, captured.parts, strict=True))
    return [segment for i, (program, part) in pairs for segment in _of(i, program, part, plan.topology)]


def _of(number: int, program: Program, part: Graph, topology: Topology) -> Iterator[_Segment]:
    ops = {op.name: op for op in part.ops}
    used = topology.used(active_devices(program))
    runs = {i.segment: (i, used.device(device)) for device, i in program if isinstance(i, Run)}
    for name, (run, device) in runs.items():
        inside = [ops[op] for op in program.segments[name].ops]
        yield _Segment((number, name), inside, device, (DeviceKey.of(device), segment_key(inside, run.outputs)))


def _known(captured: Captured, plan: Plan, segments: Sequence[_Segment]) -> dict[tuple[DeviceKey, str], float]:
    """Seconds of every segment; those that the store lacks are timed, and kept."""
    store = CostStore()
    sorts = dict.fromkeys(segment.kept[0] for segment in segments)
    known = {(sort, key): seconds for sort in sorts for key, seconds in store.segments(sort).items()}
    if all(segment.kept in known for segment in segments):
        return known
    with telling("timing compiled segments") as told, torch.random.fork_rng(devices=[]), timing():
        times = _Programs(captured, plan).seconds(functools.partial(told, "segments"))
    found = {segment.kept: times[segment.place] for segment in segments}
    for sort in sorts:
        store.write_segments(sort, {key: seconds for (of, key), seconds in found.items() if of == sort})
    return {**known, **found}


class _Programs:
    """The programs of a plan, compiled, on made up inputs.

    Cost: seconds to compile, and up to `SECONDS` to run.
    """

    def __init__(self, captured: Captured, plan: Plan) -> None:
        runtime = LocalRuntime(plan.topology)
        runtime.codegen = "inductor"
        pairs = zip(plan.programs, captured.parts, strict=True)
        self.parts = [_Alone(runtime, program, part, plan.keys) for program, part in pairs]
        self.pace = pace_kept(plan.topology.devices[0])
        written = {name for part in captured.parts for op in part.ops for name in op.mutates}
        self.given = {d: Inputs(captured.examples, t, written) for d, t in runtime.torch_devices.items()}

    def seconds(self, on_progress: Callable[[float], object]) -> dict[Place, float]:
        """What each segment took: the mean over micro-batches, and over the runs that were not disturbed."""
        begun = perf_counter()
        places = self._run()
        runs: list[dict[Place, float]] = []
        while len(runs) < ROUNDS or perf_counter() - begun < LEAST_SECONDS:
            scale = to_kept(self.pace)
            runs.append({place: scale * seconds for place, seconds in self._run().items()})
            on_progress(min(1.0, len(runs) / ROUNDS))
            if perf_counter() - begun > SECONDS:
                break
        kept = undisturbed([list(run.values()) for run in runs])
        return {place: statistics.mean(run[i] for run in kept) for i, place in enumerate(places)}

    def _run(self) -> dict[Place, float]:
        """Run all programs once: seconds of each segment, the mean over micro-batches."""
        made: dict[str, Any] = {}
        found: dict[Place, float] = {}
        for i, executable in enumerate(self.parts):
            results = executable.run(self._inputs(executable, made))
            ends = zip(executable.graph.outputs, results, strict=True)
            made.update((end.value.name, given[0]) for end, given in ends if isinstance(end.value, Value))
            del results
            found.update(((i, name), seconds) for name, seconds in executable.taken().items())
        return found

    def _inputs(self, executable: Executable, made: dict[str, Any]) -> dict[Instance, Any]:
        """What a program needs: made up, or what another has made."""
        inputs: dict[Instance, Any] = {}
        for value in executable.inputs:
            entry = executable.program.inputs[value.name]
            given = self.given[entry.device]
            for k in executable.program.instances(entry):
                inputs[value.name, k] = given.take(executable.graph, value, made)
        return inputs


class _Synchronous(DeviceProgram):
    """A device's list, whose segments have ended when they count as done."""

    def _run(self, run: Run, freed: set[Instance]) -> Step:
        action = super()._run(run, freed)

        def ended(call: Call, env: Env) -> None:
            action(call, env)
            synchronize(self.torch_device)

        return ended


class _Alone(Executable):
    """A program whose devices run one after the other, in this thread: nothing slows a segment."""

    interpreter = _Synchronous

    def _in_this_thread(self) -> bool:
        return True

    def taken(self) -> dict[str, float]:
        """Segment -> seconds in the last run, the mean over micro-batches."""
        found: dict[str, list[float]] = {}
        for event in self.timeline.events:
            if isinstance(event.instruction, Run):
                found.setdefault(event.instruction.segment, []).append(event.end - event.start)
        return {name: statistics.mean(times) for name, times in found.items()}
