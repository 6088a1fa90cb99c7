"""Ops timed one by one while they run as a segment's do: by TorchScript, as far as it has them, or by Python."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Run
from torchplace.compiler.targets import called_as
from torchplace.runtime.accelerator import Stopwatch, is_accelerator
from torchplace.runtime.kernels import Piece, make_stamped, whole
from torchplace.runtime.scripted import Scripted, in_rows, pieces
from torchplace.runtime.torchscript import clocked, unoptimized

_log = logging.getLogger(__name__)


def make_timed(
    graph: Graph,
    device: torch.device,
    keys: Mapping[str, str],
    watch: Stopwatch,
    ops: Sequence[Op] | None = None,
    run: Run | None = None,
) -> Callable[..., Sequence[Any]]:
    """Compile ops to a function that has each of them timed.

    On accelerators Python calls them all: which interpreter issues an op is not in its time there.

    Args:
        graph: that they belong to.
        device: torch device that replaces "the device that this op is placed on".
        keys: op name -> structural key, for those that draw random numbers.
        watch: gets the times, one for each op, in order.
        ops: in order; None for all of the graph.
        run: inputs and outputs; None for those of the graph.

    Returns:
        A function of the inputs, in a list that it empties, and of the step's seed; gives the outputs.
    """
    ops, run = graph.ops if ops is None else ops, run or whole(graph)
    items: Sequence[Op | Piece] = ops
    if not is_accelerator(device):
        try:
            made = pieces(in_rows(ops, device), run, device, device.type)
            items = [Timed(item, watch) if isinstance(item, Scripted) else item for item in made]
        except Exception as error:  # as where segments are compiled
            _log.warning("ops of %r are timed by Python: %s", graph.name, error)
    stamped = make_stamped(graph, device, keys, items, run)
    return lambda args, seed=0: stamped(args, watch.stamp, seed)


class Timed:
    """Ops in a row, as one function that reads the clock before the first of them and behind each.

    Attributes:
        inputs: as of what is timed.
        outputs: as of what is timed.
        box: as of what is timed.
    """

    def __init__(self, timed: Scripted, watch: Stopwatch) -> None:
        """Compile it; `watch` gets the times."""
        self.inputs, self.outputs, self.box, self.watch = timed.inputs, timed.outputs, timed.box, watch
        self.function = clocked(timed.function, [called_as(op.target).split(".")[1] for op in timed.ops])

    def __call__(self, args: Any) -> list[Any]:
        """Run it; as of what is timed."""
        with unoptimized():
            results, stamps = self.function(args)
        self.watch.insert([(after - before) * 1e-9 for before, after in itertools.pairwise(stamps)])
        return results
