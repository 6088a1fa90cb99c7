"""The calibration set: synthetic models whose ops fill the store that `fitted` costs are learnt from.

They are made of the layers of which models are made, but copy none: what is fitted on them is tried on others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from torchplace.compiler.dry import capture_dry
from torchplace.placement.cost.store import CostStore, DeviceKey, Sample
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.calibration_convolutions import convolutions, depthwise, small_images
from torchplace.runtime.calibration_layers import losses, masks, pointwise, signals
from torchplace.runtime.calibration_models import (
    Bundle,
    Chain,
    attentions,
    dense,
    recurrences,
    transformers,
)
from torchplace.runtime.op_times import measure_ops, sorts
from torchplace.runtime.progress import Tell, nobody

VERSION = 2
"""Counts up when the set changes: stores that were filled with another one are filled again."""


class Entry(NamedTuple):
    """A bundle of the set: its name, what makes its chains, and whether its backward is captured."""

    name: str
    make: Callable[[int], list[Chain]]
    training: bool


CALIBRATION: tuple[Entry, ...] = (
    Entry("pointwise", pointwise, True),
    Entry("dense", dense, True),
    Entry("transformers", transformers, True),
    Entry("attentions", attentions, True),
    Entry("convolutions", convolutions, True),
    Entry("convolutions-inference", convolutions, False),
    Entry("depthwise", depthwise, True),
    Entry("small-images", small_images, True),
    Entry("small-images-inference", small_images, False),
    Entry("recurrences", recurrences, True),
    Entry("losses", losses, True),
    Entry("masks", masks, True),
    Entry("signals", signals, True),
)


def bundles(
    entries: tuple[Entry, ...] = CALIBRATION, seed: int = 0
) -> Iterator[tuple[Entry, Bundle, tuple[torch.Tensor, ...]]]:
    """The modules of the set and the inputs of their calls; always the same for a seed."""
    for number, entry in enumerate(entries):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            chains = entry.make(seed + number)
            bundle = Bundle(chains).train(entry.training)
        yield entry, bundle, tuple(x for chain in chains for x in chain.inputs)


def fill_store(
    topology: Topology,
    store: CostStore,
    *,
    on_progress: Tell = nobody,
    entries: tuple[Entry, ...] = CALIBRATION,
) -> int:
    """Time the ops of the calibration set on every sort of device that is here, unless the store has them already.

    Interrupted, it goes on where it was. Takes about a minute on a small CPU.

    Returns:
        How many signatures were written.
    """
    keys = [DeviceKey.of(device) for device in sorts(topology)]
    known = {key: store.seconds(key) for key in keys}
    todo = [entry for entry in entries if any(_mark(entry) not in known[key] for key in keys)]
    written = 0
    for number, (entry, bundle, inputs) in enumerate(bundles(tuple(todo))):
        on_progress(f"calibrating: {entry.name}", number / len(todo))
        captured = capture_dry(bundle, inputs, {}, training=entry.training)
        for graph in captured:
            written += measure_ops(graph, topology, store, again=True)
        for key in keys:
            store.write(key, [Sample(_mark(entry), _mark(entry), MARK, {}, 0.0, 1)])
    return written


MARK = "calibration"


def _mark(entry: Entry) -> str:
    return f"{MARK}-{VERSION}-{entry.name}"
