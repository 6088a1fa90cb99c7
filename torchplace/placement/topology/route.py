"""A route: the links that a transfer crosses, in order."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.piece import Piece


@dataclass(frozen=True, slots=True)
class Route:
    """The links that a transfer crosses, in order; empty for a transfer that stays where it is.

    A route through host memory may pass a switch, and even a link, twice; it then lists the link twice.

    Attributes:
        links: each starts where the one before ends.
        latency: seconds, the sum over the links.
        bandwidth: bytes/s, that of the narrowest link, shared by the times that it is crossed; infinite for an
            empty route. Both are those of the links themselves; `at` says what a transfer of a size gets.

    Raises:
        TopologyError: a link does not start where the one before ends.
    """

    links: tuple[Link, ...]
    latency: float = field(init=False, compare=False)
    bandwidth: float = field(init=False, compare=False)
    _regimes: tuple[_Regime, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for before, after in zip(self.links, self.links[1:], strict=False):
            if before.target != after.source:
                raise TopologyError(f"route {before.name}, {after.name}: a link must start where the one before ends")
        # fsum, because a route and its way back must cost the same to the last bit.
        object.__setattr__(self, "latency", math.fsum(link.latency for link in self.links))
        object.__setattr__(self, "bandwidth", min(self._rates(), default=math.inf))
        object.__setattr__(self, "_regimes", tuple(_regimes(self.links)) if any(k.pieces for k in self.links) else ())

    def _rates(self) -> Iterable[float]:
        if len({link.target for link in self.links}) == len(self.links):
            return (link.bandwidth for link in self.links)
        return (link.bandwidth / times for link, times in Counter(self.links).items())

    def __len__(self) -> int:
        return len(self.links)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that it passes, both ends included; none for an empty route."""
        if not self.links:
            return ()
        return (self.links[0].source, *(link.target for link in self.links))

    @property
    def by_size(self) -> bool:
        """Whether transfers cost more than one latency and one bandwidth tell: a link has pieces."""
        return bool(self._regimes)

    def at(self, nbytes: float) -> tuple[float, float]:
        """Latency (seconds, 0 or more) and bandwidth (bytes/s) of a transfer of `nbytes` bytes.

        Where links have pieces: the sum of the latencies that are for this size, and the narrowest bandwidth. A sum
        below 0 stands for bytes that are quicker than the rest, and is told as a larger bandwidth.
        """
        if not self._regimes:
            return self.latency, self.bandwidth
        regime = self._regimes[bisect_right(self._regimes, nbytes, key=_start) - 1]
        latency, bandwidth = regime.latency, regime.bandwidth
        seconds = latency + nbytes / bandwidth
        if seconds < regime.least:
            seconds, latency = regime.least, regime.least - nbytes / bandwidth
        if latency >= 0:
            return latency, bandwidth
        return 0.0, nbytes / seconds if seconds else math.inf

    def time(self, nbytes: float) -> float:
        """Seconds to move `nbytes` bytes with nobody else on the way: latency + bytes / bandwidth, as of their size.

        The alpha-beta model of Hockney, "The communication challenge for MPP" (Parallel Computing 20, 1994).
        The links work as a pipeline, so the narrowest alone sets the rate.

        Raises:
            OptionError: `nbytes` is negative.
        """
        if nbytes < 0:
            raise OptionError(f"nbytes is {nbytes!r}, expected 0 or more bytes")
        latency, bandwidth = self.at(nbytes)
        return latency + nbytes / bandwidth

    def __str__(self) -> str:
        return " -> ".join(self.nodes) or "(stays)"


class _Regime(NamedTuple):
    """What transfers from a size on cost on a route; `least` is what largest of the smaller ones takes (seconds)."""

    nbytes: int
    latency: float
    bandwidth: float
    least: float


def _start(regime: _Regime) -> int:
    return regime.nbytes


def _regimes(links: tuple[Link, ...]) -> Iterator[_Regime]:
    """One for each size at which a piece of a link begins."""
    of_links = [(link.regimes, times) for link, times in Counter(links).items()]
    least = 0.0
    before: _Regime | None = None
    for start in sorted({piece.nbytes for pieces, _ in of_links for piece in pieces}):
        now = [(_piece_at(pieces, start), times) for pieces, times in of_links]
        latency = math.fsum(piece.latency for piece, times in now for _ in range(times))
        bandwidth = min(piece.bandwidth / times for piece, times in now)
        if before is not None:
            least = max(least, before.latency + start / before.bandwidth)
        before = _Regime(start, latency, bandwidth, least)
        yield before


def _piece_at(pieces: tuple[Piece, ...], nbytes: int) -> Piece:
    return pieces[bisect_right(pieces, nbytes, key=lambda piece: piece.nbytes) - 1]
