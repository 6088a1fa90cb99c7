"""What every solver must keep to, as a suite that the author of a plug-in runs in one line.

from torchplace.placement.solvers.conformance import check_solver

def test_conformance() -> None:
    check_solver(MySolver())
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torchplace.compiler.graph import Graph, Op, Output, Value
from torchplace.compiler.passes.phases import assign_phases
from torchplace.compiler.types import TensorType
from torchplace.errors import InfeasibleError, SolverError
from torchplace.placement.check import check
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.registry import Solver
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.link import both_ways
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

LAYERS = 6
WEIGHT = 2**20
"""Elements of each parameter of the suite's graphs: 4 MiB."""


def check_solver(solver: Solver) -> None:
    """Run the whole suite on a solver: small problems, of which it must solve every one that it can.

    Checked are: it has a name; answers are valid (every op on a device, hints, groups, memory), for one op, one
    device, no op at all, devices of different speeds, training; two runs with one seed give one answer; the
    problem is left as it was; and what fits nowhere is an `InfeasibleError` that names a device.

    Raises:
        SolverError: lists every promise that it broke.
    """
    faults = [] if isinstance(solver.name, str) and solver.name else ["it has no name"]
    for what, problem in solvable_problems():
        faults += [f"{what}: {fault}" for fault in _solves(solver, problem)]
    for what, problem in impossible_problems():
        faults += [f"{what}: {fault}" for fault in _refuses(solver, problem)]
    if faults:
        shown = "\n".join(f"  {fault}" for fault in faults)
        raise SolverError(f"solver {solver.name!r} breaks {len(faults)} promise(s):\n{shown}")


def solvable_problems() -> Iterator[tuple[str, Problem]]:
    """(what it is, problem): each has a placement that fits, and the devices that hints leave have ample memory."""
    yield "no op", _problem(Graph("empty"), [2**30])
    yield "one op", _problem(layers(1), [2**30, 2**30])
    yield "one device", _problem(layers(LAYERS), [2**30])
    yield "two devices", _problem(layers(LAYERS), [2**30, 2**30])
    yield "three devices, the first without memory", _problem(layers(LAYERS), [1, 2**30, 2**30])
    yield "more devices than ops", _problem(layers(2), [2**30] * 5)
    yield "training", _problem(layers(LAYERS, training=True), [2**30] * 3, training=True)
    pins = {"layer0": "device:1", f"layer{LAYERS - 1}": "device:0"}
    yield "pins", _problem(layers(LAYERS), [2**30, 2**30], pins=pins)
    yield "all pinned", _problem(layers(LAYERS), [2**30, 2**30], pins={"*": "device:1"})
    yield "state that is written", _problem(_counter(), [2**30, 2**30])
    together = [["layer0", f"layer{LAYERS - 1}", "weight_gradient2"]]
    yield "together", _problem(layers(LAYERS, training=True), [2**30] * 3, training=True, together=together)
    forbid = {"layer[024]": ["device:0"], "layer1": ["device:1", "device:2"], "*": ["device:3"]}
    yield "forbidden devices", _problem(layers(LAYERS), [2**30] * 4, forbid=forbid)
    pins, together, forbid = {"layer1": "device:0"}, [["layer0", "layer4"]], {"layer4": ["device:0"]}
    made = _problem(layers(LAYERS), [2**30] * 3, pins=pins, together=together, forbid=forbid)
    yield "hints of all kinds", made


def impossible_problems() -> Iterator[tuple[str, Problem]]:
    """(what it is, problem): nothing fits any of them."""
    parameter = 4 * WEIGHT
    yield "one device too small", _problem(layers(LAYERS), [LAYERS * parameter - 1])
    yield "all devices too small", _problem(layers(LAYERS), [parameter] * (LAYERS - 1))
    yield "an op too large for any device", _problem(layers(1), [parameter - 1, parameter - 1])
    pins = {"*": "device:0"}
    yield "pins that overfill a device", _problem(layers(LAYERS), [parameter, 2**30], pins=pins)
    together = [["layer0", "layer1"]]
    yield "together too large for any device", _problem(layers(2), [parameter] * 3, together=together)
    forbid = {"*": ["device:2"]}
    yield "too large for what is allowed", _problem(layers(3), [parameter, parameter, 2**30], forbid=forbid)


def _solves(solver: Solver, problem: Problem) -> Iterator[str]:
    before = (problem.graph.fingerprint(), dict(problem.pins), dict(problem.op_bytes))
    try:
        answers = [solver.solve(problem, seed=seed, time_limit=1.0) for seed in (3, 3)]
    except InfeasibleError as error:
        yield f"it says that nothing fits, but memory is ample: {error}"
        return
    except Exception as error:  # whatever the plug-in may raise is a fault to report
        yield f"it raises {error!r}"
        return
    yield from check(problem, answers[0])
    if answers[0] != answers[1]:
        yield "two runs with the same seed give two answers"
    if before != (problem.graph.fingerprint(), dict(problem.pins), dict(problem.op_bytes)):
        yield "it changes the problem"


def _refuses(solver: Solver, problem: Problem) -> Iterator[str]:
    try:
        solver.solve(problem, seed=0, time_limit=1.0)
        yield "it answers, though nothing fits; expected an InfeasibleError"
    except InfeasibleError as error:
        if not any(device in str(error) for device in problem.devices):
            yield f"its InfeasibleError names no device: {error}"
    except Exception as error:  # whatever the plug-in may raise is a fault to report
        yield f"it raises {error!r}, though nothing fits; expected an InfeasibleError"


def _problem(graph: Graph, memory: list[int], *, training: bool = False, **hints: Any) -> Problem:
    return Problem.build(graph, star(memory), Roofline(), training=training, **hints)


def star(memory: list[int]) -> Topology:
    """Devices `device:0`, `device:1`... around one switch; every other device is twice as fast as the first.

    Args:
        memory: bytes of each.
    """
    devices = [
        Device(f"device:{i}", f"kind-{i % 2}", size, {"float32": 1e12 * (1 + i % 2)}, 1e11 * (1 + i % 2), 1e-6)
        for i, size in enumerate(memory)
    ]
    links = [link for d in devices for link in both_ways(d.name, "switch", "wire", 1e10, 1e-6)]
    return Topology("star", tuple(devices), (Switch("switch", "switch"),), tuple(links))


def layers(count: int, *, training: bool = False) -> Graph:
    """A chain of products with a parameter each, `layer0`, `layer1`...; in training, its backward pass too."""
    kind = TensorType("float32", (WEIGHT,))
    graph = Graph("layers")
    weights = [Value(f"w{i}", kind, kind="parameter", path=f"layer{i}.weight") for i in range(count)]
    graph.inputs = [Value("x", kind, kind="input"), *weights]
    at = graph.inputs[0]
    saved = []
    for i, weight in enumerate(weights):
        saved.append(at)
        at = _multiply(graph, f"layer{i}", at, weight)
    graph.outputs = [Output(at)]
    if training:
        _backward(graph, weights, saved)
    assign_phases(graph)
    return graph


def _backward(graph: Graph, weights: list[Value], saved: list[Value]) -> None:
    gradient = Value("tangent", weights[0].type, kind="tangent")
    graph.inputs.append(gradient)
    for i in reversed(range(len(weights))):
        returned = _multiply(graph, f"weight_gradient{i}", gradient, saved[i])
        graph.outputs.append(Output(returned, "gradient", weights[i].path))
        if i > 0:
            gradient = _multiply(graph, f"gradient{i}", gradient, weights[i])


def _counter() -> Graph:
    """A buffer that an op reads, and another one, behind a chain of ops, writes."""
    graph = layers(LAYERS)
    buffer = Value("calls", TensorType("float32", (1,)), kind="buffer", path="calls")
    graph.inputs.append(buffer)
    more = _multiply(graph, "count", buffer, graph.ops[-1].outputs[0])
    graph.ops.append(Op("write", "aten.copy_.default", (buffer, more), mutates=("calls",)))
    return graph


def _multiply(graph: Graph, name: str, one: Value, other: Value) -> Value:
    made = Value(name, one.type)
    op = Op(name, "aten.mul.Tensor", (one, other), outputs=(made,), module=name, flops=100 * WEIGHT)
    made.producer = op
    graph.ops.append(op)
    return made
