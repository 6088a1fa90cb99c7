"""Gives the links of a topology the figures that explain transfers which were measured between its devices."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from torchplace.placement.cost.measured_links import ALIKE, Samples, asymptote
from torchplace.placement.topology.topology import Topology


def refit(topology: Topology, pairs: Mapping[tuple[str, str], Samples]) -> Topology | None:
    """The same structure with measured figures; None where no figures of its links explain what was measured.

    A link is as fast as the fastest pair whose route crosses it, for whatever is slower has a narrower link elsewhere.
    The latencies of links are those, 0 or more, whose sums over routes are nearest to what the smallest transfers took
    (least squares). Links that no route crosses stay as they are.

    Cost: that of a least-squares problem of pairs x links.

    Args:
        topology: of which the structure is known.
        pairs: (source, target) -> size -> seconds, of all ordered pairs of devices.
    """
    routes = {pair: topology.route(*pair) for pair in pairs}
    crossed = list(dict.fromkeys(link for route in routes.values() for link in route.links))
    if not crossed:
        return None
    bandwidth = dict.fromkeys(crossed, 0.0)
    rows, smallest = np.zeros((len(pairs), len(crossed))), []
    column = {link: i for i, link in enumerate(crossed)}
    for row, (pair, route) in enumerate(routes.items()):
        rate = asymptote(pairs[pair])
        for link, times in Counter(route.links).items():
            bandwidth[link] = max(bandwidth[link], rate * times)
            rows[row, column[link]] = times
        smallest.append(statistics.median(pairs[pair][min(pairs[pair])]))
    latencies, _ = nnls(rows * 1e6, np.array(smallest) * 1e6)  # microseconds: numbers near 1
    found = {
        link: replace(link, bandwidth=bandwidth[link], latency=float(latency), pieces=())
        for link, latency in zip(crossed, latencies, strict=True)
    }
    fitted = replace(topology, links=tuple(found.get(link, link) for link in topology.links))
    return fitted if explains(fitted, pairs) else None


def explains(topology: Topology, pairs: Mapping[tuple[str, str], Samples]) -> bool:
    """Whether every pair takes what its route says, within `ALIKE` (root mean square over its sizes)."""
    for pair, samples in pairs.items():
        route = topology.route(*pair)
        off = [math.log(statistics.median(seconds) / route.time(n)) for n, seconds in samples.items() if route.time(n)]
        if not off or statistics.fmean(o * o for o in off) > math.log1p(ALIKE) ** 2:
            return False
    return True
