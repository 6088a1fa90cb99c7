"""Documented machines by name: a file for each, with the public source of every figure in its docstring."""

from __future__ import annotations

import functools
from dataclasses import replace

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import did_you_mean
from torchplace.placement.topology.parts.networks import network_names
from torchplace.placement.topology.presets.big_sur import big_sur
from torchplace.placement.topology.presets.cluster import cluster, is_cluster, parse
from torchplace.placement.topology.presets.dgx1_v100 import dgx1_v100
from torchplace.placement.topology.presets.registry import PRESETS, preset_names
from torchplace.placement.topology.topology import Topology


@functools.cache
def _box(name: str) -> Topology:
    return replace(PRESETS[name].build(), name=name)  # two names may stand for one machine


# Few, since the routes that a large cluster has found fill much memory.
_cluster = functools.lru_cache(maxsize=4)(cluster)


def preset(name: str) -> Topology:
    """The machine with that name, or the cluster, such as "dgx-h100*16@ndr400".

    The same object each time, with the routes that it has found so far (of clusters, the last four are kept).

    Raises:
        TopologyError: no preset has that name; lists those that exist.
    """
    if name in PRESETS:
        return _box(name)
    if isinstance(name, str) and is_cluster(name):
        return _cluster(*parse(name))
    raise TopologyError(
        f"no preset topology {name!r}{did_you_mean(str(name), PRESETS)} (presets: {', '.join(PRESETS)};"
        " or a cluster of one, such as dgx-h100*16@ndr400)"
    )


__all__ = ["PRESETS", "big_sur", "dgx1_v100", "is_cluster", "network_names", "preset", "preset_names"]
