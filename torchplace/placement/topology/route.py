"""A route: the links that a transfer crosses, in order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology.link import Link


@dataclass(frozen=True, slots=True)
class Route:
    """The links that a transfer crosses, in order; empty for a transfer that stays where it is.

    A route through host memory may pass a switch, and even a link, twice; it then lists the link twice.

    Attributes:
        links: each starts where the one before ends.
        latency: seconds, the sum over the links.
        bandwidth: bytes/s, that of the narrowest link, shared by the times that it is crossed; infinite for an
            empty route.

    Raises:
        TopologyError: a link does not start where the one before ends.
    """

    links: tuple[Link, ...]
    latency: float = field(init=False, compare=False)
    bandwidth: float = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for before, after in zip(self.links, self.links[1:], strict=False):
            if before.target != after.source:
                raise TopologyError(f"route {before.name}, {after.name}: a link must start where the one before ends")
        # fsum, because a route and its way back must cost the same to the last bit.
        object.__setattr__(self, "latency", math.fsum(link.latency for link in self.links))
        object.__setattr__(self, "bandwidth", min(self._rates(), default=math.inf))

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

    def time(self, nbytes: float) -> float:
        """Seconds to move `nbytes` bytes with nobody else on the way: latency + bytes / bandwidth.

        The alpha-beta model of Hockney, "The communication challenge for MPP" (Parallel Computing 20, 1994).
        The links work as a pipeline, so the narrowest alone sets the rate.

        Raises:
            OptionError: `nbytes` is negative.
        """
        if nbytes < 0:
            raise OptionError(f"nbytes is {nbytes!r}, expected 0 or more bytes")
        return self.latency + nbytes / self.bandwidth

    def __str__(self) -> str:
        return " -> ".join(self.nodes) or "(stays)"
