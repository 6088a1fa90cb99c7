"""Timeline: what ran, or would run, when, on which device or link. Simulator and runtimes give the same type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torchplace.compiler.instructions import Accumulate, Instruction, Run, Update


@dataclass(frozen=True, slots=True)
class Event:
    """One instruction, done.

    Attributes:
        device: whose instruction it is.
        instruction: what was done.
        start: seconds since the program started.
        end: seconds since the program started; of a send, when the value has arrived.
        route: names of the links that a send used, as `a->b`.
        nbytes: bytes that a send moved.
    """

    device: str
    instruction: Instruction
    start: float
    end: float
    route: tuple[str, ...] = ()
    nbytes: int = 0


@dataclass(repr=False)
class Timeline:
    """Events in the order in which they started.

    Attributes:
        events: what happened.
        peak_memory: device -> bytes that were live at most.
        tail: seconds that the host takes behind the last event.
    """

    events: list[Event] = field(default_factory=list)
    peak_memory: dict[str, int] = field(default_factory=dict)
    tail: float = 0.0

    def __repr__(self) -> str:
        return f"<Timeline: {len(self.events)} events, {self.duration:.3g} s>"

    @property
    def duration(self) -> float:
        """Seconds from the start of the program to its last event's end, and the tail: the step time."""
        return max((e.end for e in self.events), default=0.0) + self.tail

    def of(self, device: str) -> list[Event]:
        """The events of one device."""
        return [e for e in self.events if e.device == device]

    @property
    def work(self) -> dict[str, float]:
        """Device -> seconds for which it ran segments; devices that ran none are left out."""
        return self._seconds(Run)

    @property
    def occupied(self) -> dict[str, float]:
        """Device -> seconds for which it computed: `work`, and what updates and sums of gradients took."""
        return self._seconds(Run, Update, Accumulate)

    def _seconds(self, *kinds: type[Instruction]) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for e in self.events:
            if isinstance(e.instruction, kinds):
                seconds[e.device] = seconds.get(e.device, 0.0) + (e.end - e.start)
        return seconds

    def busy(self, device: str) -> float:
        """Seconds for which a device ran segments; for many devices, ask `work` once."""
        return self.work.get(device, 0.0)

    @property
    def link_bytes(self) -> dict[str, int]:
        """Link, as `a->b` -> bytes that went over it."""
        totals: dict[str, int] = {}
        for event in self.events:
            for link in event.route:
                totals[link] = totals.get(link, 0) + event.nbytes
        return totals

    @classmethod
    def joined(cls, timelines: Iterable[Timeline]) -> Timeline:
        """Timelines one after the other: forward, then backward."""
        whole = cls()
        for timeline in timelines:
            shift = whole.duration
            for e in timeline.events:
                whole.events.append(Event(e.device, e.instruction, e.start + shift, e.end + shift, e.route, e.nbytes))
            for device, peak in timeline.peak_memory.items():
                whole.peak_memory[device] = max(peak, whole.peak_memory.get(device, 0))
            whole.tail = timeline.tail if timeline.events else whole.tail + timeline.tail
        return whole
