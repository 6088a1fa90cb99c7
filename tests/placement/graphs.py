"""Training graphs, machines and problems, made by hand and by chance, for the tests of placement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hypothesis import strategies as st

from tests.compiler.graphs import Builder, graphs
from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.passes.phases import assign_phases
from torchplace.compiler.types import TensorType
from torchplace.errors import InfeasibleError
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.problem import Evaluate, Problem
from torchplace.placement.topology import Device, Switch, Topology, both_ways

FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Table:
    """A compute cost that is written down: op name -> seconds; times the device's launch overhead, its slowness."""

    times: Mapping[str, float] = field(default_factory=dict)
    default: float = 1.0
    name: str = "table"

    def time(self, op: Op, device: Device) -> float:
        return self.times.get(op.name, self.default) * device.launch_overhead


def machine(
    memory: Sequence[int], slowness: Sequence[float] | None = None, bandwidth: float = 1e3, latency: float = 0.0
) -> Topology:
    """Devices `d0`, `d1`... around a switch; memory in bytes; `Table` takes slowness as a factor of time."""
    factors = slowness or [1.0] * len(memory)
    devices = [
        Device(f"d{i}", "toy", size, {"float32": 1.0}, 1.0, factor)
        for i, (size, factor) in enumerate(zip(memory, factors, strict=True))
    ]
    links = [link for d in devices for link in both_ways(d.name, "switch", "wire", bandwidth, latency / 2)]
    return Topology("machine", tuple(devices), (Switch("switch", "switch"),), tuple(links))


def problem(
    graph: Graph,
    topology: Topology,
    *,
    training: bool = False,
    cost: ComputeCost | None = None,
    objective: str = "latency",
    evaluate: Evaluate | None = None,
    **hints: Any,
) -> Problem:
    """The problem of a graph on a topology; by default every op takes one second times the device's slowness."""
    cost = cost or Table()
    return Problem.build(graph, topology, cost, training=training, objective=objective, evaluate=evaluate, **hints)


def perceptron(widths: Sequence[int] = (8, 4, 2)) -> Graph:
    """A chain of products `layer0`, `layer1`... and its backward pass; shapes in `widths`, one parameter a layer.

    Layer i saves its input; `back{i}` takes its parameter, `grad{i}` (weight-grad) what was saved.
    """
    b = Builder()
    at = b.input("x", widths[0])
    layers = []
    for i, width in enumerate(widths):
        weight = b.parameter(f"w{i}", width)
        layers.append((at, weight))
        at = b.op("aten.mul.Tensor", at, weight, shape=(width,), name=f"layer{i}", module=f"net.{i}")
    b.returns(at)
    gradient = b.add("tangent", "tangent", widths[-1])
    for i, (saved, weight) in reversed(list(enumerate(layers))):
        shape = (widths[i],)
        b.gradient(weight, b.op("aten.mul.Tensor", gradient, saved, shape=shape, name=f"grad{i}", module=f"net.{i}"))
        gradient = b.op("aten.mul.Tensor", gradient, weight, shape=shape, name=f"back{i}", module=f"net.{i}")
    b.graph.ops.pop()  # nobody wants the gradient of the input
    assign_phases(b.graph)
    return b.graph


@st.composite
def training_graphs(draw: st.DrawFn) -> Graph:
    """A random forward graph, and a backward pass that takes its values, views and parameters at random."""
    graph = draw(graphs(max_ops=8))
    graph.outputs = [o for o in graph.outputs if o.kind != "gradient"]  # those are of any size
    b = Builder(graph)
    tangent = b.add("tangent", "tangent", 4)
    made = [v for op in graph.ops for v in op.outputs]
    parameters = [v for v in graph.inputs if v.kind == "parameter"]
    late: list[Value] = [tangent]
    for _ in range(draw(st.integers(1, 6))):
        taken = [draw(st.sampled_from(late)), draw(st.sampled_from([*made, *graph.inputs]))]
        if draw(st.booleans()):
            late.append(b.view(taken[0]))
        else:
            late.append(b.op("aten.mul.Tensor", *taken, shape=(draw(st.integers(1, 64)),)))
    for parameter in parameters:
        if draw(st.booleans()):
            source = draw(st.sampled_from(late[1:]))
            gradient = b.op("aten.sum.dim_IntList", source, [0], shape=sizes(parameter))
            b.gradient(parameter, b.view(gradient) if draw(st.booleans()) else gradient)
    assign_phases(graph)
    return graph


def sizes(value: Value) -> tuple[int, ...]:
    assert isinstance(value.type, TensorType)
    return value.type.sizes


@st.composite
def machines(draw: st.DrawFn, most: int = 4) -> Topology:
    """One to four devices, some slower, some with little memory."""
    count = draw(st.integers(1, most))
    memory = draw(st.lists(st.sampled_from([1, 64, 256, 1024, 2**20]), min_size=count, max_size=count))
    slowness = draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=count, max_size=count))
    return machine(memory, slowness)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """A random graph, forward or with its backward pass, on a random machine, with or without hints."""
    training = draw(st.booleans())
    graph = draw(training_graphs() if training else graphs(max_ops=8))
    topology = draw(machines())
    times = {op.name: draw(st.sampled_from([0.0, 0.1, 0.3, 1.0, 2.5, 7.0])) for op in graph.ops}
    objective = draw(st.sampled_from(["latency", "throughput"]))
    stated = partial(problem, graph, topology, cost=Table(times), training=training, objective=objective)
    free = stated()
    groups = draw(st.lists(st.sampled_from(free.groups), unique=True, max_size=2)) if free.groups else []
    pins = {group[0]: draw(st.sampled_from(topology.device_names)) for group in groups}
    try:
        return stated(pins=pins, **draw(hints(free)))
    except InfeasibleError:  # they clash
        return stated(pins=pins)


@st.composite
def hints(draw: st.DrawFn, free: Problem) -> dict[str, Any]:
    """Sets of ops that stay together, and devices that ops must not be on."""
    if not free.ops or draw(st.booleans()):
        return {}
    ops = st.sampled_from(free.ops)
    few = st.lists(st.sampled_from(free.devices), unique=True, min_size=1, max_size=max(1, len(free.devices) - 1))
    together = draw(st.lists(st.lists(ops, min_size=2, max_size=3, unique=len(free.ops) > 2), max_size=2))
    return {"together": together, "forbid": draw(st.dictionaries(ops, few, max_size=3))}


def on_another(made: Problem, topology: Topology) -> Problem:
    """The same ops and hints on other devices."""
    together = [hint.ops for hint in made.hints if hint.kind == "together"]
    forbid = {op: tuple(devices) for op, devices in made.forbidden.items()}
    kept = {"pins": made.pins, "together": together, "forbid": forbid}
    return problem(made.graph, topology, cost=made.cost, training=made.training, **kept)
