"""Timelines as a trace file, which Perfetto (ui.perfetto.dev) and Chrome's tracing page show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchplace.compiler.instructions import Instruction, Recv, Reduce, Run, Send, brief
from torchplace.errors import PlanError
from torchplace.placement.timeline import Event, Timeline
from torchplace.placement.topology.atomic import write_whole

_TRACKS = {"compute": 0, "send": 1, "receive": 2}


def save_trace(path: str | Path, timelines: Mapping[str, Timeline] | Timeline) -> None:
    """Write timelines to a JSON file that Perfetto opens, whole or not at all.

    Every device is a process with a track each for what it computes, sends and receives; arrows lead from a send to
    the receive of the same value. Several timelines stand below each other: what was predicted, and what was measured.

    Args:
        path: of the file.
        timelines: name -> timeline; or one.

    Raises:
        PlanError: the file cannot be written.
    """
    named = {"": timelines} if isinstance(timelines, Timeline) else dict(timelines)
    events = [event for name, timeline in named.items() for event in trace_events(timeline, name)]
    try:
        write_whole(Path(path), json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}) + "\n")
    except OSError as error:
        raise PlanError(f"cannot write the trace to {str(path)!r}: {error.strerror}") from error


def trace_events(timeline: Timeline, name: str = "") -> list[dict[str, Any]]:
    """The events of a timeline in the form of Chrome's traces; times are in microseconds.

    Cost: linear in the events.
    """
    devices = list(dict.fromkeys(e.device for e in timeline.events))
    devices += [d for d in dict.fromkeys(_target(e) for e in timeline.events) if d and d not in devices]
    process = {device: f"{name} {device}".strip() for device in devices}
    found: list[dict[str, Any]] = []
    for label in process.values():
        found.append({"ph": "M", "name": "process_name", "pid": label, "args": {"name": label}})
        for track, number in _TRACKS.items():
            found.append({"ph": "M", "name": "thread_name", "pid": label, "tid": number, "args": {"name": track}})
    for event in timeline.events:
        found += _slice(event, process[event.device])
    return found + list(_flows(timeline, process, name))


def _target(event: Event) -> str:
    return event.instruction.to if isinstance(event.instruction, Send) else ""


def _track(instruction: Instruction) -> int:
    match instruction:
        case Send() | Reduce():
            return _TRACKS["send"]
        case Recv():
            return _TRACKS["receive"]
        case _:
            return _TRACKS["compute"]


def _slice(event: Event, process: str) -> Iterator[dict[str, Any]]:
    instruction = event.instruction
    args: dict[str, Any] = {"instruction": str(instruction), "micro-batch": instruction.microbatch}
    if event.nbytes:
        args |= {"bytes": event.nbytes, "route": " ".join(event.route)}
    yield {
        "ph": "X",
        "name": brief(instruction),
        "cat": type(instruction).__name__.lower(),
        "pid": process,
        "tid": _track(instruction),
        "ts": 1e6 * event.start,
        "dur": 1e6 * (event.end - event.start),
        "args": args,
    }


def _flows(timeline: Timeline, process: Mapping[str, str], name: str) -> Iterator[dict[str, Any]]:
    """An arrow from each send to where its value is used first: the wait for it, or the run that takes it."""
    first: dict[tuple[str, str, int], Event] = {}
    for event in timeline.events:
        instruction = event.instruction
        if isinstance(instruction, Recv):
            first.setdefault((event.device, instruction.value, instruction.microbatch), event)
        elif isinstance(instruction, Run):
            for value in instruction.inputs:
                first.setdefault((event.device, value, instruction.microbatch), event)
    for i, event in enumerate(timeline.events):
        send = event.instruction
        if isinstance(send, Send) and (taken := first.get((send.to, send.value, send.microbatch))) is not None:
            shared = {"cat": "transfer", "name": f"%{send.value}", "id": f"{name}{i}"}
            at = (1e6 * event.start, 1e6 * max(taken.end, event.start))
            yield {"ph": "s", "pid": process[event.device], "tid": _TRACKS["send"], "ts": at[0], **shared}
            track = _track(taken.instruction)
            yield {"ph": "f", "bp": "e", "pid": process[send.to], "tid": track, "ts": at[1], **shared}
