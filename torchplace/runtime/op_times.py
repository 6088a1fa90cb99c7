"""Times the ops of a captured graph on a device of this machine, in graph order, and keeps them in the store.

Ops timed alone add up to too little: in a model their memory is allocated and given back, and caches hold what other
ops left. So the whole graph runs as a segment does, and the clock is read between its ops. Nothing larger than an op is
timed.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from torchplace.compiler.acts import only_timed
from torchplace.compiler.capture import Captured
from torchplace.compiler.dynamo import below_autograd, outside_modes
from torchplace.compiler.graph import STATE, Graph, Op, Value
from torchplace.compiler.types import TensorType, torch_dtype
from torchplace.placement.cost.features import features
from torchplace.placement.cost.signature import signature, signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey, Sample
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.figures import read_figures
from torchplace.placement.topology.local import pair_threads
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.accelerator import is_accelerator, on_device, precise_stopwatch
from torchplace.runtime.allocator import keep_freed_memory
from torchplace.runtime.progress import Tell, nobody
from torchplace.runtime.reference import reference_seconds
from torchplace.runtime.timed import make_timed
from torchplace.runtime.transport import bring

ROUNDS, IN_A_ROW = 3, 3
"""How often a graph is run for its ops to be timed: rounds, at least, and repetitions in each that count."""

LEAST_SECONDS, SECONDS = 1.5, 10.0
"""For how long, at least and about at most: the speed of a machine changes from one half second to the next."""


def measure_ops(
    captured: Captured,
    topology: Topology,
    store: CostStore,
    *,
    again: bool = False,
    on_progress: Tell = nobody,
    seconds: float = SECONDS,
) -> int:
    """Time every op of a graph that the store lacks, on each sort of device of the topology.

    Args:
        captured: the graph, its parts and the examples of its inputs.
        topology: devices that are not here are left out.
        store: where the times are kept. An interrupt keeps those of the repetitions so far.
        again: time ops that the store has, too.
        on_progress: is told how far it is.
        seconds: for each sort of device, about at most.

    Returns:
        How many signatures were written.

    Needs the memory that one device would need to run the graph alone.
    """
    written = 0
    for device in sorts(topology):
        key = DeviceKey.of(device)
        known = {} if again else store.seconds(key)
        if all(signature_key(op) in known for part in captured.parts for op in part.ops):
            continue
        keep_freed_memory()
        timing = _Timing(captured, torch.device(device.torch_device), pace_kept(device))
        try:
            with threads_set(key.threads), on_device(timing.device):
                timing.repeat(seconds, functools.partial(on_progress, device.kind))
        finally:
            samples = timing.samples()
            store.write(key, samples)
            written += len(samples)
    return written


def is_here(device: Device) -> bool:
    """Whether a device is one of this machine, so that ops can be timed on it."""
    there = torch.device(device.torch_device)
    if there.type == "cpu":
        return device.kind == "cpu"
    return is_accelerator(there) and (there.index or 0) < torch.accelerator.device_count()


def sorts(topology: Topology) -> list[Device]:
    """One device of each sort that is here, whichever number of devices a program uses (`Topology.used`)."""
    found: dict[DeviceKey, Device] = {}
    names = topology.device_names
    for count in range(1, len(names) + 1) if topology.shares_threads else (len(names),):
        for device in filter(is_here, topology.used(names[:count]).devices[:count]):
            found.setdefault(DeviceKey.of(device), device)
    return list(found.values())


def pace_kept(device: Device) -> float | None:
    """Seconds of the reference workload at the pace of this machine for which costs are kept; None where none is.

    Machines drift. What is measured on a CPU device at different times is divided by the pace of that time.
    """
    figures = read_figures(pair_threads()) if device.kind == "cpu" else None
    return figures.reference or None if figures is not None else None


def to_kept(pace: float | None) -> float:
    """By what times that are measured now are multiplied, to be those at the pace for which costs are kept."""
    return pace / reference_seconds() if pace else 1.0


@contextmanager
def threads_set(count: int) -> Iterator[None]:
    """Within, torch has so many intra-op threads; 0 leaves them as they are."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def timing() -> Iterator[None]:
    """Within, ops run as they do in a program, but for no call of a model."""
    with outside_modes(), torch.no_grad(), below_autograd(), only_timed():
        yield


class _Timing:
    """The times of one graph's ops on one device, repetition by repetition."""

    def __init__(self, captured: Captured, device: torch.device, pace: float | None) -> None:
        self.captured, self.device, self.pace = captured, device, pace
        keys = captured.graph.keys()
        self.watch = precise_stopwatch(device)
        self.functions = [make_timed(part, device, keys, self.watch) for part in captured.parts]
        self.runs: list[list[float]] = []
        written = {name for part in captured.parts for op in part.ops for name in op.mutates}
        self.given = Inputs(captured.examples, device, written)

    def repeat(self, seconds: float, on_progress: Callable[[float], Any]) -> None:
        """Run the graph in rounds, until there are enough of them, spread over enough time, or the time is over."""
        begun, rounds = perf_counter(), 0
        with timing():
            while True:
                self._round(begun + seconds)
                rounds += 1
                passed = perf_counter() - begun
                if passed > seconds or (rounds >= ROUNDS and passed > LEAST_SECONDS):
                    break
                on_progress(min(rounds / ROUNDS, passed / max(LEAST_SECONDS, 1e-9), 1.0))
        on_progress(1.0)

    def _round(self, end: float) -> None:
        """Some repetitions in a row, behind one that does not count: it warms the caches, as the step before does."""
        scale = to_kept(self.pace)
        self._run()
        for i in range(IN_A_ROW):
            if i and perf_counter() > end:
                break
            self.runs.append([scale * seconds for seconds in self._run()])

    def _run(self) -> list[float]:
        """Seconds of each op of each part, in order."""
        found: list[float] = []
        env: dict[str, Any] = {}
        for part, function in zip(self.captured.parts, self.functions, strict=True):
            results = function([self.given.take(part, v, env) for v in part.inputs])
            env.update(zip((v.name for v in part.output_values), results, strict=True))
            del results
            found += self.watch.seconds()
        return found

    def samples(self) -> list[Sample]:
        """One sample for each signature: its mean over its places, in the repetitions that were not disturbed."""
        kept = undisturbed(self.runs)
        if not kept:
            return []
        places: dict[str, list[float]] = {}
        ops: dict[str, Op] = {}
        for place, op in enumerate(op for part in self.captured.parts for op in part.ops):
            key = signature_key(op)
            ops.setdefault(key, op)
            places.setdefault(key, []).extend(run[place] for run in kept)
        return [
            Sample(key, signature(op), op.target, features(op), statistics.mean(places[key]), len(places[key]))
            for key, op in ops.items()
        ]


def undisturbed(runs: Sequence[list[float]]) -> Sequence[list[float]]:
    """The middle half of repetitions by their sums, at least one.

    Not each op's own middle: what disturbs now this op and now that one would leave no trace in any, though every step
    meets some of it; the sum over a graph came out 1% to 2.5% too little.
    """
    ordered = sorted(runs, key=sum)
    quarter = len(ordered) // 4
    return ordered[quarter : len(ordered) - quarter]


class Inputs:
    """The inputs of a graph: the examples of its capture where they are known, else tensors of the same type."""

    def __init__(self, examples: Mapping[str, Any], device: torch.device, written: Iterable[str]) -> None:
        self.examples, self.device, self.written = examples, device, set(written)
        self._state: dict[str, Any] = {}

    def take(self, part: Graph, value: Value, made: dict[str, Any]) -> Any:
        """An input; what another part has made leaves `made` with its use, so that it is freed as in a real step."""
        if value.kind in STATE:
            return self.state(part, value)
        return made.pop(value.name) if value.name in made else self.fresh(value)

    def state(self, part: Graph, value: Value) -> Any:
        """State, made once; what the graph writes to is a copy."""
        if value.name not in self._state:
            given = part.constants.get(value.name, self.examples.get(value.name))
            self._state[value.name] = self._here(self._like(value) if given is None else given, value)
        return self._state[value.name]

    def fresh(self, value: Value) -> Any:
        """An input that the graph may drop, or a tangent."""
        given = self.examples.get(value.name)
        return self._here(self._like(value) if given is None else given, value)

    def _here(self, given: Any, value: Value) -> Any:
        if not isinstance(given, torch.Tensor):
            return given
        given = given.detach()
        if given.device != self.device:
            return bring(given, self.device)
        return given.clone() if value.name in self.written else given

    def _like(self, value: Value) -> Any:
        """Small numbers of the right type: finite, no denormals, and valid as indices."""
        if not isinstance(value.type, TensorType):
            return value.type.symbol.hint if value.type.symbol is not None else 1
        sizes, dtype = value.type.sizes, torch_dtype(value.type.dtype)
        made = torch.ones(sizes, dtype=dtype, device=self.device)
        made = made.mul_(0.01) if dtype.is_floating_point else made.zero_() if dtype != torch.bool else made
        if value.type.stride is None:
            return made
        return torch.empty_strided(sizes, value.type.stride, dtype=dtype, device=self.device).copy_(made)


def missing(captured: Captured, known: Mapping[str, float]) -> Sequence[Op]:
    """The ops of a graph whose cost is not known."""
    return [op for part in captured.parts for op in part.ops if signature_key(op) not in known]
