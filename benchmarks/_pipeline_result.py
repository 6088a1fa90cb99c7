"""Result: what a contest over one model has shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks._timing import median, paired_ratio

EAGER, LIMIT, PLACED, ALONE, PEER = "eager", "limit", "torchplace", "torchplace on one device", "pipelining "
RANKS = "torchplace on two ranks"
"""Names of contestants; of those of the peer, the begin."""


@dataclass(frozen=True)
class Result:
    """Times of all that could, and why others could not.

    Attributes:
        case: name of the case.
        microbatches: of a step.
        parameters: numbers in them.
        tuned: allocator and cores were the same for all.
        times: contestant -> seconds of its steps, round by round.
        cannot: contestant -> why it cannot.
        facts: contestant -> what it says of how it works.
        paces: contestant -> how much slower the machine was than when it was calibrated, round by round.
    """

    case: str
    microbatches: int
    parameters: int
    tuned: bool
    times: Mapping[str, list[float]]
    cannot: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paces: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def best_peer(self) -> str | None:
        """The schedule of the peer that is fastest."""
        peers = [name for name in self.times if name.startswith(PEER)]
        return min(peers, key=lambda name: median(self.times[name]), default=None)

    @property
    def drift(self) -> float:
        """How much slower eager was in the second half of the rounds than in the first."""
        times = self.times[EAGER]
        half = (len(times) + 1) // 2
        return median(times[-half:]) / median(times[:half]) - 1

    @property
    def spread(self) -> float:
        """How much longer the slowest step of eager took than the fastest."""
        return max(self.times[EAGER]) / min(self.times[EAGER]) - 1

    def seconds(self, name: str) -> float:
        """Of a step."""
        return median(self.times[name])

    def to_eager(self, name: str) -> float:
        """Step time, in those of eager."""
        return paired_ratio(self.times, name, EAGER)

    def share_of_limit(self, name: str) -> float | None:
        """Of the speed that the machine reaches with independent processes."""
        return paired_ratio(self.times, LIMIT, name) if LIMIT in self.times else None

    def error(self, name: str) -> float:
        """Of the predicted step time, relative to the measured one."""
        return float(self.facts[name]["predicted"]) / self.seconds(name) - 1

    def error_at_pace(self, name: str) -> float:
        """Of the predicted step time at the pace that the machine had just before each step: the median."""
        predicted = float(self.facts[name]["predicted"])
        rounds = zip(self.times[name], self.paces[name], strict=True)
        return median([predicted * pace / seconds for seconds, pace in rounds]) - 1

    def data(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            **{name: getattr(self, name) for name in ("case", "microbatches", "parameters", "tuned")},
            **{name: getattr(self, name) for name in ("best_peer", "drift", "spread", "cannot")},
            "contestants": {name: self._contestant(name) for name in self.times},
        }

    def _contestant(self, name: str) -> dict[str, Any]:
        found = {"seconds": self.seconds(name), "to_eager": self.to_eager(name), "times": self.times[name]}
        predicted = (
            {"error": self.error(name), "error_at_pace": self.error_at_pace(name)}
            if "predicted" in self.facts[name]
            else {}
        )
        return {**found, "share_of_limit": self.share_of_limit(name), **self.facts[name], **predicted}


def shares(of: Mapping[str, int]) -> Sequence[tuple[str, int, float]]:
    """(Device, number, its share of all)."""
    total = sum(of.values()) or 1
    return [(device, number, number / total) for device, number in of.items()]
