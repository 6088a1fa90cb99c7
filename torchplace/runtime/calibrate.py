"""Calibrates this machine as a host of CPU devices: what calls, instructions, hand-overs and co-running cost here.

Small synthetic programs run, and their timelines are read: never a plan that somebody wants to know the time of.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch

from torchplace.compiler.instructions import Recv, Run, Send
from torchplace.placement.cost.store import CostStore
from torchplace.placement.simulate import simulate
from torchplace.placement.timeline import Event, Timeline
from torchplace.placement.topology.figures import CpuFigures, write_figures
from torchplace.placement.topology.local import local_with, pair_threads
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.calibration_blocks import Block, Bottleneck, in_a_row
from torchplace.runtime.calibration_coruns import pace
from torchplace.runtime.calibration_programs import Cells, Chain, Ran, at_random, run
from torchplace.runtime.calibration_steps import beside, step_models
from torchplace.runtime.profile import cpu_figures
from torchplace.runtime.progress import Tell, nobody, telling

_LONG = 60  # layers of a chain
_AT_ONCE = 6e-6  # seconds within which a value that has come is taken up: less than any wait takes
_CONTENTIONS = tuple(0.25 * i for i in range(25))
_USUAL, _SPREAD = 2.5, 1.5  # contention: what eight calibrations of this kind of machine found, and how they differ
_UNSURE = 0.1  # relative error of a program's time from one calibration to the next


def calibrate(figures: CpuFigures, store: CostStore, told: Tell = nobody) -> CpuFigures:
    """Run the synthetic programs on one and on two CPU devices, and read off what the host adds.

    Args:
        figures: of each of two CPU devices; what the host adds is replaced.
        store: for the times of the programs' ops.
        told: is told how far it is, between what is timed.

    Cost: about a minute and a half on two cores.
    """
    told("programs", 0.0)
    mixed = _mixed(store, lambda what, share: told(what, 0.6 * share))
    told("small ops", 0.6)
    chain = run(Chain(_LONG), torch.randn(4, 8), store, at_random(0, 10**9))
    told("calls", 0.65)
    call, argument = beside(step_models())
    told("work at the same time", 0.75)
    usual = pace()  # last: a machine that was idle may be quicker for a while
    told("what fits all of these", 0.95)
    found = {
        "call": call,
        "argument": argument,
        "launch_overhead": statistics.mean(seconds for op, seconds in chain.ops.items() if not op.is_view),
        "instruction": _instruction(mixed),
        **_hand_over(mixed),
        "start": statistics.median(min(e.start for e in t.events) for ran in mixed for t in ran.timelines),
        **usual._asdict(),
        "contention": 0.0,
    }
    return _with_contention(figures.model_copy(update=found), mixed)


def _mixed(store: CostStore, told: Tell) -> list[Ran]:
    """Programs whose devices take turns and work at the same time: deep ones, that find little in the caches."""
    words, images = torch.randn(2, 40, 256), torch.randn(2, 160, 14, 14)
    programs = [
        (in_a_row(Block(256, "explicit") for _ in range(5)), words, at_random(0, 1)),
        (in_a_row(Block(256, "rotary") for _ in range(4)), words, at_random(1, 3)),
        (in_a_row(Bottleneck(160) for _ in range(6)), images, at_random(2, 2)),
        (in_a_row(Block(256, "plain") for _ in range(5)), words, at_random(4, 8)),
        (Cells(288, 20), torch.randn(24, 288), at_random(1, 2)),
    ]
    found = []
    for i, (model, x, place) in enumerate(programs):
        told(f"program {i + 1} of {len(programs)}", i / len(programs))
        found.append(run(model, x, store, place))
    return found


def _with_contention(figures: CpuFigures, mixed: Sequence[Ran]) -> CpuFigures:
    """The contention with which the programs are predicted best, the host's other figures given.

    A maximum a posteriori estimate: what a hand-over costs changes from minute to minute on virtual machines, and a
    few programs tell little of it. So the figure stays near what earlier calibrations found, unless these say else.
    """

    def error(contention: float) -> float:
        here = local_with(2, figures.model_copy(update={"contention": contention}))
        off = sum((math.log(_simulated(ran, here) / _measured(ran)) / _UNSURE) ** 2 for ran in mixed)
        return off + ((contention - _USUAL) / _SPREAD) ** 2

    return figures.model_copy(update={"contention": min(_CONTENTIONS, key=error)})


def _measured(ran: Ran) -> float:
    return statistics.median(timeline.duration for timeline in ran.timelines)


def _simulated(ran: Ran, topology: Topology) -> float:
    """Seconds as the runtime's timelines count them: a call's overhead is not in them."""
    beside = replace(topology.host, call=0.0, argument=0.0)
    timeline = simulate(ran.program, ran.graph, replace(topology, host=beside), ran.cost)
    return timeline.duration - timeline.tail


def _instruction(mixed: Sequence[Ran]) -> float:
    """Seconds beside its ops for which a segment keeps its device, where no other computes meanwhile."""
    found = []
    for ran in mixed:
        for timeline in ran.timelines:
            for before, event in _pairs(timeline):
                if isinstance(event.instruction, Run) and not _accompanied(event, timeline):
                    found.append(event.end - before.end - ran.segments[event.instruction.segment])
    return max(0.0, statistics.median(found)) if found else 0.0


def _accompanied(event: Event, timeline: Timeline) -> bool:
    """Whether another device computes or sends during a tenth of an event or more."""
    shared = (
        min(other.end, event.end) - max(other.start, event.start)
        for other in timeline.events
        if other.device != event.device and not isinstance(other.instruction, Recv)
    )
    return sum(s for s in shared if s > 0) > 0.1 * (event.end - event.start)


def _hand_over(mixed: Sequence[Ran]) -> dict[str, float]:
    """Seconds of sends, of receives that need not wait, and from a send's end till whoever waited is awake."""
    sends: dict[bool, list[float]] = {False: [], True: []}
    receives: list[float] = []
    latencies: list[float] = []
    for timeline in (timeline for ran in mixed for timeline in ran.timelines):
        waits = {(e.instruction.value, e.device): e for e in timeline.events if isinstance(e.instruction, Recv)}
        for before, event in _pairs(timeline):
            if isinstance(event.instruction, Send):
                wait = waits.get((event.instruction.value, event.instruction.to))
                waited = wait is not None and wait.start < event.start
                sends[waited].append(event.end - before.end)
                latencies += [wait.end - event.end] if wait is not None and waited else []
            elif isinstance(event.instruction, Recv) and event.end - event.start < _AT_ONCE:
                receives.append(event.end - before.end)
    send = _center(sends[False] or sends[True])
    return {
        "send": send,
        "receive": _center(receives),
        "wake": max(0.0, _center(sends[True]) - send),
        "transfer_latency": max(0.0, _center(latencies)),
    }


def _center(values: Sequence[float]) -> float:
    """The mean without the largest tenth, which are disturbances; 0 of nothing."""
    ordered = sorted(values)
    return statistics.mean(ordered[: max(1, round(0.9 * len(ordered)))]) if ordered else 0.0


def _pairs(timeline: Timeline) -> Iterator[tuple[Event, Event]]:
    """Each event of a device, and the one before it."""
    for device in dict.fromkeys(e.device for e in timeline.events):
        yield from pairwise(timeline.of(device))


def calibrated_figures() -> CpuFigures:
    """Figures of each of two CPU devices, with what the host adds: read from the cache, or measured now and kept.

    Measuring takes about a minute and a half; a bar on stderr says how far it is, where that is a terminal.
    """
    threads = pair_threads()
    figures = cpu_figures(threads)
    if figures.calibrated:
        return figures
    with tempfile.TemporaryDirectory() as scratch, telling("calibrating this machine, once") as told:
        figures = calibrate(figures, CostStore(Path(scratch) / "costs.sqlite"), told)
    figures = figures.model_copy(update={"calibrated": True})
    write_figures(threads, figures)
    return figures
