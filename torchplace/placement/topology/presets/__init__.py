"""Documented machines by name: a file for each, with the public source of every figure in its docstring."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import did_you_mean
from torchplace.placement.topology.presets.big_sur import big_sur
from torchplace.placement.topology.presets.dgx1_v100 import dgx1_v100
from torchplace.placement.topology.topology import Topology

PRESETS: dict[str, Callable[[], Topology]] = {
    "big-sur": big_sur,
    "dgx1-v100": dgx1_v100,
}
"""What makes each preset, by its name."""


@functools.cache
def _made(name: str) -> Topology:
    return PRESETS[name]()


def preset(name: str) -> Topology:
    """The machine with that name; the same object each time, with the routes that it has found so far.

    Raises:
        TopologyError: no preset has that name; lists those that exist.
    """
    if name not in PRESETS:
        raise TopologyError(
            f"no preset topology {name!r}{did_you_mean(str(name), PRESETS)} (presets: {', '.join(PRESETS)})"
        )
    return _made(name)


__all__ = ["PRESETS", "big_sur", "dgx1_v100", "preset"]
