"""Runs a compiled model and lines its measured timelines up with the predicted ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

import torch

from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Run
from torchplace.compiler.lifetimes import Instance, makes, uses
from torchplace.compiler.program import Program
from torchplace.errors import PlanError
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.plan import Plan
from torchplace.placement.report.alignment import Ran
from torchplace.placement.report.validation import Validation
from torchplace.placement.simulate import simulate
from torchplace.runtime.accelerator import is_accelerator, precise_stopwatch, synchronize
from torchplace.runtime.executable import Executable, Record, timeline_of
from torchplace.runtime.interpreter import Call, DeviceProgram, Env
from torchplace.runtime.interpreter import Step as Action
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.op_times import pace_kept
from torchplace.runtime.reference import reference_seconds
from torchplace.runtime.session import Session
from torchplace.runtime.steps import Step
from torchplace.runtime.timed import make_timed

_WARM, _CLOCKED = 3, 5
_MOVED = 0.01

_Runs = list[tuple[Executable, Record]]
"""What one step ran, in order."""


def validate(session: Session, step: Step, *, steps: int, plan: Plan | None = None) -> Validation:
    """Run a compiled model for some steps, and hold what was predicted of its plans against them.

    The reference workload runs between the steps. Behind them come a few in which the clock is read behind every op:
    they tell what share of its segment each op takes, and nothing else.

    Args:
        session: what runs the model.
        step: one call of it, and in training its backward.
        steps: how many are measured, after some that are not.
        plan: that it runs, if it was made earlier: its prediction is compared with that of the costs as they are now.

    Raises:
        PlanError: the step runs no program.
    """
    for _ in range(_WARM):
        step.forget()
        step()
    walls, references, runs = _measure(session.runtime, step, steps)
    if not runs[-1]:
        raise PlanError("the step ran no program: all that it calls was left to eager PyTorch")
    order = [executable for executable, _ in runs[-1]]
    alike = [i for i, run in enumerate(runs) if [executable for executable, _ in run] == order]
    clocked = _clock(session, step)
    costs = {part: placed.cost for placed in session.placed for part in placed.parts}
    ran = [
        _ran(session, executable, costs[executable], [runs[i][n][1] for i in alike], clocked)
        for n, executable in enumerate(order)
    ]
    first = max((placed.plan for placed in session.placed), key=lambda p: len(p.placement))
    result = Validation(
        first.name,
        session.request.topology.name,
        step.training,
        first.cost,
        ran,
        [walls[i] for i in alike],
        references,
        kept=_kept(session, first),
    )
    return _noted(result, session, plan, steps - len(alike))


def _kept(session: Session, plan: Plan) -> float | None:
    """The pace for which measured costs of this machine are kept; None where the costs are no such ones."""
    if plan.cost not in ("measured", "fitted") or session.rehearse:
        return None
    return pace_kept(plan.topology.devices[0])


def _measure(runtime: LocalRuntime, step: Step, steps: int) -> tuple[list[float], list[float], list[_Runs]]:
    walls, references, runs = [], [], []
    devices = set(runtime.torch_devices.values())
    for _ in range(steps):
        references.append(reference_seconds())
        step.forget()
        step()  # in a loop of steps, caches hold what the one before has left
        step.forget()
        with _recording(runtime) as found:
            begun = perf_counter()
            step()
            for device in devices:
                synchronize(device)
            walls.append(perf_counter() - begun)
        runs.append(found)
    return walls, [*references, reference_seconds()], runs


@contextmanager
def _recording(runtime: LocalRuntime) -> Iterator[_Runs]:
    """Within, every run of a program is noted."""
    found: _Runs = []
    runtime.on_run = lambda executable, record: found.append((executable, record))
    try:
        yield found
    finally:
        runtime.on_run = None


class _ClockedProgram(DeviceProgram):
    """A device's list, in which the clock is read behind every op.

    Attributes:
        seconds: segment -> of each run of it, what its ops took, and at the end what it took beside them.
    """

    def __init__(
        self,
        program: Program,
        graph: Graph,
        device: str,
        torch_devices: Mapping[str, torch.device],
        keys: Mapping[str, str],
    ) -> None:
        self.seconds: dict[str, list[list[float]]] = {}
        self.watch = precise_stopwatch(torch_devices[device])
        super().__init__(program, graph, device, torch_devices, keys)

    def _run(self, run: Run, freed: set[Instance]) -> Action:
        ops = [self.ops[name] for name in self.program.segments[run.segment].ops]
        kernel = make_timed(self.graph, self.torch_device, self.keys, self.watch, ops, run)
        k = run.microbatch
        taken, given = uses(run, self.shared), makes(run)

        def action(call: Call, env: Env) -> None:
            begun = perf_counter()
            args = [env.pop(i) if i in freed else env[i] for i in taken]
            env.update(zip(given, kernel(args, call.seed + k), strict=True))
            whole = perf_counter() - begun
            reading = len(self.watch.stamps) * self.watch.reading
            seconds = self.watch.seconds()
            beside = whole - sum(seconds) - reading
            if is_accelerator(self.torch_device):
                beside = 0.0
            self.seconds.setdefault(run.segment, []).append([*seconds, max(0.0, beside)])

        return action


def _clock(session: Session, step: Step) -> dict[Executable, dict[str, list[float]]]:
    """Seconds of each op of each segment, and beside them: medians of a few steps, without what the clock takes."""
    plain = {part: part.devices for placed in session.placed for part in placed.parts}
    clocked: dict[Executable, list[_ClockedProgram]] = {}
    for part, devices in plain.items():
        made = {
            name: _ClockedProgram(part.program, part.graph, name, session.runtime.torch_devices, device.keys)
            for name, device in devices.items()
        }
        clocked[part] = list(made.values())
        part.devices = dict(made)
    try:
        for _ in range(_CLOCKED):
            step.forget()
            step()
    finally:
        for part, devices in plain.items():
            part.devices = devices
    return {
        part: {
            segment: [statistics.median(times) for times in zip(*runs, strict=True)]
            for device in devices
            for segment, runs in device.seconds.items()
        }
        for part, devices in clocked.items()
    }


def _ran(
    session: Session,
    executable: Executable,
    cost: ComputeCost,
    records: Sequence[Record],
    clocked: Mapping[Executable, Mapping[str, Sequence[float]]],
) -> Ran:
    """One program of a step: simulated anew, beside what was measured of it."""
    program, graph, topology = executable.program, executable.graph, session.request.topology
    where = {op: segment.device for segment in program.segments.values() for op in segment.ops}
    where.update((op.name, program.inputs[state].device) for op in graph.ops for state in op.mutates)
    return Ran(
        program,
        graph,
        simulate(program, graph, topology, cost),
        [timeline_of(record) for record in records],
        {op.name: cost.time(op, executable.topology.device(where[op.name])) for op in graph.ops if op.name in where},
        topology.host.instruction,
        clocked[executable],
    )


def _noted(result: Validation, session: Session, plan: Plan | None, left_out: int) -> Validation:
    """With what a reader must know beside the figures."""
    notes = []
    if session.rehearse:
        notes.append("rehearsed: what was measured is this machine's CPU, what was predicted is not")
    if any(is_accelerator(device) for device in session.runtime.torch_devices.values()):
        notes.append("on accelerators, the times of single instructions are those that the host takes to issue them")
    if left_out:
        notes.append(f"{left_out} more step(s) ran other programs (a new shape, another branch) and are left out")
    if plan is not None:
        told, now = plan.predicted.step_time + sum(p.predicted.step_time for p in plan.rest), result.step_time.predicted
        if abs(told - now) > _MOVED * now:
            notes.append(f"the plan said {told:.3g} s when it was made; what it was made from has changed since")
    return replace(result, notes=tuple(notes))
