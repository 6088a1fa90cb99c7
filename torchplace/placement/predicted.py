"""Predicted: what a plan should cost, read off a simulated timeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torchplace.compiler.instructions import Send
from torchplace.compiler.program import Program
from torchplace.placement.objective import period
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology.topology import Topology


@dataclass(frozen=True)
class Predicted:
    """What a plan is predicted to cost.

    Attributes:
        step_time: seconds of one call: forward, or forward and backward.
        period: seconds from call to call if calls followed each other without a break (`objective.period`).
        peak_memory: device -> bytes.
        memory: device -> what they are -> bytes, at the moment of the peak; they add up to it. `parameters` (with
            buffers and constants), `gradients` of parameters, the state of the `optimizer`, `activations` saved for
            the backward, what the `caller` gave or gets (inputs, outputs), and `temporaries` (workspaces, received
            copies, results that wait for their use). What takes nothing is left out.
        busy: device -> seconds for which it computes.
        bytes_in: device -> bytes that it receives in a step.
        bytes_out: device -> bytes that it sends in a step.
        link_bytes: link, as `a->b` -> bytes that go over it in a step.
    """

    step_time: float
    peak_memory: dict[str, int] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    bytes_in: dict[str, int] = field(default_factory=dict)
    bytes_out: dict[str, int] = field(default_factory=dict)
    link_bytes: dict[str, int] = field(default_factory=dict)
    period: float = 0.0

    @classmethod
    def of(
        cls,
        timeline: Timeline,
        programs: Iterable[Program],
        topology: Topology,
        memory: Mapping[str, dict[str, int]],
    ) -> Predicted:
        """Read the figures off a timeline of programs, and a breakdown of its peaks."""
        names = topology.device_names
        work, received, sent = timeline.work, dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        for program in programs:
            for device, instruction in program:
                if isinstance(instruction, Send):
                    nbytes = program.values[instruction.value].nbytes
                    received[instruction.to] += nbytes
                    sent[device] += nbytes
        busy = {d: work.get(d, 0.0) for d in names}
        # A segment's peak is the most of all micro-batches, which the simulator adds up; looked into, it is less.
        peaks = {**timeline.peak_memory, **{device: sum(parts.values()) for device, parts in memory.items()}}
        carried = timeline.link_bytes
        steady = period(timeline.occupied, carried, topology)
        return cls(timeline.duration, peaks, dict(memory), busy, received, sent, carried, steady)
