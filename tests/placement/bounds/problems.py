"""Captured graphs of one part or two, and machines of all sorts, made by chance: what bounds have to hold on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from tests.compiler.graphs import graphs
from tests.placement.graphs import training_graphs
from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import STATE, Graph, Op, Output, Value
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.topology import CoRun, Device, Host, Switch, Topology, both_ways


@dataclass(frozen=True)
class Rated:
    """A compute cost that is written down: op name -> seconds; some ops follow a device's peak, some its bandwidth."""

    times: Mapping[str, float]
    name: str = "rated"

    def time(self, op: Op, device: Device) -> float:
        return self.times.get(op.name, 1.0) / (
            device.memory_bandwidth if op.name in ("v1", "v3") else device.peak("float32")
        )

    def demand(self, op: Op, device: Device) -> float:
        return 1.0


def split(graph: Graph) -> Captured:
    """A graph with its backward as two parts, as a capture hands them over."""
    early = [op for op in graph.ops if op.phase == "forward"]
    late = [op for op in graph.ops if op.phase != "forward"]
    made = {v for op in early for v in op.outputs}
    ends = [o for o in graph.outputs if o.kind == "gradient"]
    needed = [*(v for op in late for v in op.inputs), *(o.value for o in ends)]
    taken = dict.fromkeys(v for v in needed if v.producer is None or v in made)
    saved = [Output(v, "saved") for v in taken if v.kind is None or v.kind == "input"]
    given = [v for v in graph.inputs if v.kind != "tangent"]
    outputs = [o for o in graph.outputs if o.kind == "output"]
    parts = _part("forward", given, early, [*outputs, *saved]), _part("backward", taken, late, ends)
    return Captured(graph, parts, {})


def _part(name: str, inputs: Iterable[Value], ops: list[Op], outputs: list[Output]) -> Graph:
    """A graph of copies of ops; what they take from elsewhere is an input."""
    known = {v.name: Value(v.name, v.type, kind=v.kind or "saved", path=v.path) for v in inputs}
    part = Graph(name, list(known.values()))
    for op in ops:
        copy = Op(op.name, op.target, _swapped(op.args, known), phase=op.phase, mutates=op.mutates)
        copy.outputs = tuple(Value(v.name, v.type, copy, base=v.base if v.base in known else None) for v in op.outputs)
        known.update((v.name, v) for v in copy.outputs)
        part.ops.append(copy)
    part.outputs = [replace(o, value=known[o.value.name]) for o in outputs]
    return part


def _swapped(argument: Any, known: Mapping[str, Value]) -> Any:
    if isinstance(argument, Value):
        return known[argument.name]
    return type(argument)(_swapped(a, known) for a in argument) if isinstance(argument, (tuple, list)) else argument


@st.composite
def captures(draw: st.DrawFn, most: int = 8) -> Captured:
    """A random graph: forward alone, or forward and backward in two parts."""
    if draw(st.booleans()):
        return split(draw(training_graphs()))
    graph = draw(graphs(max_ops=most))
    return Captured(graph, (graph,), {})


@st.composite
def topologies(draw: st.DrawFn, most: int = 3) -> Topology:
    """Devices around a switch: alike or not, two of them bridged, some that share threads or slow each other; a host."""

    def one(*choices: float) -> float:
        return draw(st.sampled_from(choices))

    alike, count = draw(st.booleans()), draw(st.integers(1, most))
    devices = [
        Device(f"d{i}", "toy", int(one(2**20, 2**20, 2000, 700, 300)), {"float32": 1.0 if alike else one(0.5, 1, 2)},
               1.0 if alike else one(0.5, 1, 2), 1.0)
        for i in range(count)
    ]  # fmt: skip
    bandwidth, latency = one(1.0, 30.0, 300.0, 1e6), one(0.0, 0.1, 2.0)
    links = [k for d in devices for k in both_ways(d.name, "switch", "wire", bandwidth, latency / 2)]
    if count > 1 and draw(st.booleans()):
        links += both_ways("d0", "d1", "bridge", one(5.0, 1e3), one(0.0, 0.5))
    groups = []
    if count > 1 and draw(st.booleans()):
        members = tuple(d.name for d in devices[draw(st.integers(0, count - 2)) :])
        threads = draw(st.sampled_from([None, 1, 2, 4]))
        groups = [CoRun("cores", members, None, (1.0, one(1.0, 1.5, 3.0), one(1.0, 2.0)), one(0.0, 1.0), threads)]
    host = Host(*(one(0.0, 0.25) for _ in range(7))) if draw(st.booleans()) else Host()
    return Topology("any", tuple(devices), (Switch("switch", "switch"),), tuple(links), tuple(groups), host)


@st.composite
def evaluators(draw: st.DrawFn, most: int = 8) -> Evaluator:
    """A random graph on a random machine; some of its state may live somewhere already."""
    captured, topology = draw(captures(most)), draw(topologies())
    times = {op.name: draw(st.sampled_from([0.0, 0.1, 0.3, 1.0, 2.5, 7.0])) for op in captured.graph.ops}
    state = [v for v in captured.graph.inputs if v.kind in STATE]
    lives: dict[str, str] = {}
    if draw(st.booleans()):
        lives = {v.name: draw(st.sampled_from(topology.device_names)) for v in state if draw(st.booleans())}
    beside = {v.name: 2 * v.nbytes for v in state if v.kind == "parameter" and captured.training}
    return Evaluator(captured, topology, Rated(times), lives, optimizer=beside)


def every_placement(evaluator: Evaluator) -> Iterator[dict[str, str]]:
    """All placements of the ops, in an order of their own."""
    ops = [op.name for op in evaluator.captured.graph.ops]
    for devices in itertools.product(evaluator.topology.device_names, repeat=len(ops)):
        yield dict(zip(ops, devices, strict=True))
