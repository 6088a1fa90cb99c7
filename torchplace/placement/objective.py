"""What a plan is to minimise, and how long the busiest device or link of a full pipeline is busy."""

from __future__ import annotations

from collections.abc import Mapping

from torchplace.placement.topology.topology import Topology

OBJECTIVES = ("latency", "throughput", "step")
"""`latency`: seconds of one call, transfers and contention included. `throughput`: seconds from one call to the next
where calls follow each other without a break. `step`: seconds of a step of several micro-batches, by its schedule; of
one that is no pipeline, the same as `latency`."""


def period(busy: Mapping[str, float], link_bytes: Mapping[str, float], topology: Topology) -> float:
    """Seconds from step to step in steady state: nobody can be quicker than its busiest device or link.

    The max-load of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators" (NeurIPS 2020),
    section 3, with a link's time counted where it is spent: on the link.

    Args:
        busy: device -> seconds for which it computes in a step.
        link_bytes: link, as `a->b` -> bytes that go over it in a step.
        topology: whose links they are.

    Cost: linear in devices + links.
    """
    speed = {link.name: link.bandwidth for link in topology.links}
    links = (nbytes / speed[name] for name, nbytes in link_bytes.items())
    return max([*busy.values(), *links], default=0.0)
