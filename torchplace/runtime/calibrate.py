"""Calibrates this machine as a host of CPU devices: what calls, instructions, hand-overs and co-running cost here.

Small synthetic programs run, and their timelines are read: never a plan that somebody wants to know the time of.
"""

from __future__ import annotations

import functools
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
from torchplace.placement.topology.figures import CpuFigures, cores, write_figures
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
    """Two equal branches, to be computed at the same time."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        layer = functools.partial(nn.Linear, width, width)
        self.branches = nn.ModuleList(
            nn.Sequential(*(nn.Sequential(layer(), nn.ReLU()) for _ in range(layers))) for _ in range(2)
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
        crowding: that an op on several threads takes longer while another device computes.
        contention: how much longer small ops take while another device runs small ops: 1 is twice as long.
    """

    call: float
    argument: float
    instruction: float
    start: float
    latency: float
    crowding: float
    contention: float


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
        crowding=0.0 if threads == 1 else _crowding(threads, store),
        contention=max(0.0, _together(Branches(8, 60), torch.randn(4, 8), threads, store)[0] - 1),
    )


@dataclass(frozen=True)
class _Ran:
    """Timelines of a synthetic program, and the seconds that its ops take alone, by segment."""

    executable: Executable
    timelines: Sequence[Timeline]
    segments: Mapping[str, float]
    demands: Mapping[str, float]


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
    seconds, demands = {}, {}
    for name, segment in program.segments.items():
        times = [cost.time(ops[op], device) for op in segment.ops]
        seconds[name] = sum(times)
        used = sum(t * cost.demand(ops[op], device) for t, op in zip(times, segment.ops, strict=True))
        demands[name] = used / seconds[name] if seconds[name] else 1.0
    return _Ran(executable, timelines, seconds, demands)


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


def _together(model: nn.Module, x: torch.Tensor, threads: int | None, store: CostStore) -> tuple[float, _Ran]:
    """Two branches at the same time: how much longer they take than alone, and what ran."""
    ran = _timelines(model, x, threads, store, _by_branch)
    longer = []
    for timeline in ran.timelines:
        runs = [e for e in timeline.events if isinstance(e.instruction, Run)]
        long = [max((e for e in runs if e.device == d), key=lambda e: e.end - e.start) for d in ("cpu:0", "cpu:1")]
        shared = min(e.end for e in long) - max(e.start for e in long)
        alone = [_ops_of(ran, e) - (e.end - e.start - shared) for e in long]
        longer += [shared / a for a in alone if a > 0 and shared > 0]
    return (statistics.median(longer) if longer else 1.0), ran


def _crowding(threads: int | None, store: CostStore) -> float:
    """Seconds that an op on several threads takes longer while another device computes, beyond sharing the cores."""
    found = []
    for width in (192, 320, 512):
        model = Branches(width, 4)
        longer, ran = _together(model, torch.randn(192, width), threads, store)
        seconds = max(ran.segments.values())
        (demand,) = (ran.demands[name] for name, s in ran.segments.items() if s == seconds)
        # Two of equal demand d on c cores take max(1, 2 d / c) as long; both of a layer's ops are split.
        wanted = longer * cores() / 2
        found.append(max(0.0, wanted - demand) * seconds / (2 * 4))
    return statistics.median(found)


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
            "crowding": host.crowding,
            "contention": host.contention,
            "calibrated": True,
        }
    )
