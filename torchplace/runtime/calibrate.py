"""Calibrates this machine as a host of CPU devices: what calls, instructions, hand-overs and co-running cost here.

Small synthetic programs run, and their timelines are read: never a plan that somebody wants to know the time of.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from torchplace.compiler.capture import Captured, Capturer
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.dynamo import compile_module
from torchplace.compiler.instructions import Recv, Run, Send
from torchplace.placement.cost.measured import Measured
from torchplace.placement.cost.store import CostStore
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.planning import Request
from torchplace.placement.timeline import Event, Timeline
from torchplace.placement.topology.figures import CpuFigures, write_figures
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.local import Executable, LocalRuntime
from torchplace.runtime.op_times import measure_ops
from torchplace.runtime.profile import cpu_figures
from torchplace.runtime.session import Session

_CALLS, _WARM = 25, 3
_SHORT, _LONG = 12, 60


class Chain(nn.Module):
    """Layers so small that a call of them is all overhead."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, 8] to [n, 8]."""
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Branches(nn.Module):
    """Two equal branches, to be computed at the same time: products, and what is bound by memory."""

    def __init__(self, width: int = 256, layers: int = 4) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU()) for _ in range(layers))
            )
            for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[n, width] to two of [n, width]."""
        return tuple(branch(x) for branch in self.branches)


@dataclass(frozen=True)
class HostFigures:
    """What `calibrate` found; seconds, but for the slowdown.

    Attributes:
        call: of a call beside its program.
        argument: of each input and output of a program.
        instruction: of an instruction beside its ops.
        start: until the workers of a call begin, where there are several.
        latency: from a send's end to the wake-up of whoever waits for it.
        slowdown: factor by which two devices that compute slow each other, beyond their sharing the cores.
    """

    call: float
    argument: float
    instruction: float
    start: float
    latency: float
    slowdown: float


def calibrate(threads: int | None, store: CostStore) -> HostFigures:
    """Run the synthetic programs with `threads` intra-op threads for each device. Takes some seconds."""
    call, argument = _call_overhead(threads, store)
    chain = _timelines(Chain(_LONG), torch.randn(4, 8), threads, store, _alternating)
    return HostFigures(
        call=call,
        argument=argument,
        instruction=_instruction(chain),
        start=statistics.median(min(e.start for e in t.events) for t in chain.timelines),
        latency=_latency(chain.timelines),
        slowdown=_slowdown(threads, store),
    )


@dataclass(frozen=True)
class _Ran:
    """Timelines of a synthetic program, and the seconds that its ops take alone, by segment."""

    executable: Executable
    timelines: Sequence[Timeline]
    segments: Mapping[str, float]
    cores: Mapping[str, float]


def _timelines(
    model: nn.Module,
    x: torch.Tensor,
    threads: int | None,
    store: CostStore,
    place: Callable[[Captured], dict[str, str]],
) -> _Ran:
    topology = Topology.local(2, threads)
    captured = capture_dry(model, (x,), {}, training=False)[0]
    measure_ops(captured, topology, store, again=True)
    cost, device = Measured(store), topology.devices[0]
    (program,) = Evaluator(captured, topology, cost, {}).programs(place(captured))
    (part,) = captured.parts
    executable = LocalRuntime(topology).prepare(program, part)
    inputs = [captured.examples[v.name].detach() for v in part.inputs if v.kind != "constant"]
    timelines = []
    for i in range(_WARM + _CALLS):
        executable(list(inputs))
        if i >= _WARM:
            timelines.append(executable.timeline)
    ops = {op.name: op for op in part.ops}
    seconds, cores = {}, {}
    for name, segment in program.segments.items():
        times = [cost.time(ops[op], device) for op in segment.ops]
        seconds[name] = sum(times)
        used = sum(t * cost.demand(ops[op], device) for t, op in zip(times, segment.ops, strict=True))
        cores[name] = used / seconds[name] if seconds[name] else 1.0
    return _Ran(executable, timelines, seconds, cores)


def _alternating(captured: Captured) -> dict[str, str]:
    return {op.name: f"cpu:{i % 2}" for i, op in enumerate(captured.graph.ops)}


def _by_branch(captured: Captured) -> dict[str, str]:
    return {op.name: f"cpu:{int('branches.1' in op.module)}" for op in captured.graph.ops}


def _instruction(ran: _Ran) -> float:
    """Seconds beside its ops for which an instruction that waits for nothing keeps its device."""
    found = []
    for timeline in ran.timelines:
        for device in {e.device for e in timeline.events}:
            events = timeline.of(device)
            for before, event in pairwise(events):
                if not isinstance(before.instruction, Recv) and not isinstance(event.instruction, Recv):
                    found.append(event.end - before.end - _ops_of(ran, event))
    return max(0.0, statistics.median(found)) if found else 0.0


def _ops_of(ran: _Ran, event: Event) -> float:
    return ran.segments[event.instruction.segment] if isinstance(event.instruction, Run) else 0.0


def _latency(timelines: Sequence[Timeline]) -> float:
    """Median seconds from the start of a send to the wake-up of its receiver, where that was waiting."""
    found = []
    for timeline in timelines:
        sent = {(e.instruction.value, e.instruction.to): e for e in timeline.events if isinstance(e.instruction, Send)}
        for event in timeline.events:
            if isinstance(event.instruction, Recv):
                send = sent.get((event.instruction.value, event.device))
                if send is not None and event.start < send.start:
                    found.append(event.end - send.start)
    return statistics.median(found) if found else 0.0


def _slowdown(threads: int | None, store: CostStore) -> float:
    """How much longer two branches take at the same time than their shares of the cores explain; 1 or more."""
    ran = _timelines(Branches(), torch.randn(256, 256), threads, store, _by_branch)
    cores = torch.get_num_threads() if threads is None else max(threads, 2)
    found = []
    for timeline in ran.timelines:
        runs = [e for e in timeline.events if isinstance(e.instruction, Run)]
        long = [max((e for e in runs if e.device == d), key=lambda e: e.end - e.start) for d in ("cpu:0", "cpu:1")]
        shared = min(e.end for e in long) - max(e.start for e in long)
        for event in long:
            alone = _ops_of(ran, event) - (event.end - event.start - shared)
            demand = sum(ran.cores[e.instruction.segment] for e in long if isinstance(e.instruction, Run))
            if alone > 0:
                found.append(shared / alone / max(1.0, demand / cores))
    return max(1.0, statistics.median(found)) if found else 1.0


def _call_overhead(threads: int | None, store: CostStore) -> tuple[float, float]:
    """(Seconds of a call, seconds of an input or output): what a wall clock shows beyond the program's timeline."""
    points = [_beyond(layers, training, threads) for layers in (_SHORT, _LONG) for training in (False, True)]
    # Least squares of the relative errors over seconds = programs * call + arguments * argument.
    rows = torch.tensor([[programs, arguments] for programs, arguments, _ in points], dtype=torch.float64)
    seconds = torch.tensor([[s] for *_, s in points], dtype=torch.float64)
    weights = 1 / seconds.clamp(min=1e-6)
    call, argument = torch.linalg.lstsq(rows * weights, seconds * weights).solution.flatten().tolist()
    return max(0.0, call), max(0.0, argument)


def _beyond(layers: int, training: bool, threads: int | None) -> tuple[int, int, float]:
    """(Programs, their inputs and outputs, seconds beyond their timelines) of one call of a compiled chain."""
    model, x = Chain(layers), torch.randn(4, 8)
    session = Session(Request(Topology.local(1, threads), solver="single"))
    compile_module(model, Capturer(session, "calibration"), dynamic=None, fullgraph=True)
    found = []
    for i in range(_WARM + _CALLS):
        model.zero_grad()
        begun = perf_counter()
        _step(model, x, training)
        wall = perf_counter() - begun
        if i >= _WARM:
            found.append(wall - sum(e.timeline.duration for e in session.placed[0].parts))
    parts = session.placed[0].parts
    return len(parts), sum(len(e.inputs) + len(e.ends) for e in parts), statistics.median(found)


def _step(model: nn.Module, x: torch.Tensor, training: bool) -> Any:
    with torch.set_grad_enabled(training):
        result = model(x)
        return result.mean().backward() if training else result


def calibrated_figures(threads: int | None = None) -> CpuFigures:
    """Figures of a CPU device, those of the host among them: read from the cache, or measured now and kept.

    Args:
        threads: intra-op threads; None for what torch uses now.
    """
    figures = cpu_figures(threads)
    if figures.calibrated:
        return figures
    with tempfile.TemporaryDirectory() as scratch:
        host = calibrate(threads, CostStore(Path(scratch) / "costs.sqlite"))
    figures = with_host(figures, host)
    write_figures(threads or torch.get_num_threads(), figures)
    return figures


def with_host(figures: CpuFigures, host: HostFigures) -> CpuFigures:
    """Figures of a CPU device with what a calibration found."""
    return figures.model_copy(
        update={
            "call": host.call,
            "argument": host.argument,
            "instruction": host.instruction,
            "start": host.start,
            "transfer_latency": host.latency,
            "slowdown": host.slowdown,
            "calibrated": True,
        }
    )
