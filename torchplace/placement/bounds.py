"""Lower bounds: what no plan can beat on a cost model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torchplace.compiler.graph import Graph, Op
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.topology import Topology


def lower_bound(graph: Graph, topology: Topology, cost: ComputeCost, objective: str = "latency") -> float:
    """Seconds that no placement can beat.

    The larger of two relaxations. For one step: the critical path with every op on its fastest device and transfers for
    nothing. For the time from step to step: the longest op. For both: all work spread evenly over devices that each
    run every op as fast as the fastest of them.

    Cost: O(ops x devices that differ + edges).
    """
    different = _different(topology)
    fastest = {op: min(cost.time(op, d) for d in different) for op in graph.ops}
    even = sum(fastest.values()) / len(topology.devices)
    if objective == "throughput":
        return max(even, max(fastest.values(), default=0.0))
    return max(even, _critical_path(graph, fastest))


def _critical_path(graph: Graph, fastest: Mapping[Op, float]) -> float:
    finish: dict[str, float] = {}
    for op in graph.ops:
        end = max((finish.get(v.name, 0.0) for v in op.inputs), default=0.0) + fastest[op]
        finish.update((v.name, end) for v in op.outputs)
        finish[op.name] = end
    return max(finish.values(), default=0.0)


def _different(topology: Topology) -> list[Device]:
    """One device of each sort on which ops take as long; devices of one kind may still differ in their speeds."""
    found: list[Device] = []
    seen: list[Device] = []
    for device in topology.devices:
        plain = replace(device, name="any", torch_device="cpu", memory=1)
        if plain not in seen:
            seen.append(plain)
            found.append(device)
    return found
