"""Plans made without capturing a model, for the tests of plans, their files and their tables."""

from __future__ import annotations

from tests.placement.graphs import Table, machine, perceptron
from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Graph
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.plan import Plan
from torchplace.placement.planning import Request, finish
from torchplace.placement.topology import Topology

MACHINE = machine([1 << 20] * 3)


def captured(graph: Graph | None = None) -> Captured:
    graph = graph or perceptron()
    return Captured(graph, (graph,), {})


def plan_of(placement: dict[str, str] | None = None, graph: Graph | None = None, topology: Topology = MACHINE) -> Plan:
    """A plan of the perceptron; by default layer i is on device i, and everything else on the first."""
    found = captured(graph)
    where = {op.name: "d0" for op in found.graph.ops} | {f"layer{i}": f"d{i}" for i in range(3)}
    if placement is not None:
        where = placement
    request = Request(topology, cost=Table(), seed=7)
    return finish(Evaluator(found, topology, Table(), {}), where, request, "by hand", 0.25)
