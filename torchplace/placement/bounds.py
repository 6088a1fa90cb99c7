"""Lower bounds: what no plan can beat on a cost model."""

from __future__ import annotations

from dataclasses import replace

from torchplace.compiler.graph import Graph
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.topology import Topology


def lower_bound(graph: Graph, topology: Topology, cost: ComputeCost) -> float:
    """Seconds that no placement of one step can beat.

    The larger of two relaxations: the critical path with every op on its fastest device and transfers for nothing;
    and all work spread evenly over devices that each run every op as fast as the fastest of them.

    Cost: O(ops x devices that differ + edges).
    """
    different = _different(topology)
    fastest = {op: min(cost.time(op, d) for d in different) for op in graph.ops}
    finish: dict[str, float] = {}
    for op in graph.ops:
        end = max((finish.get(v.name, 0.0) for v in op.inputs), default=0.0) + fastest[op]
        finish.update((v.name, end) for v in op.outputs)
        finish[op.name] = end
    path = max(finish.values(), default=0.0)
    return max(path, sum(fastest.values()) / len(topology.devices))


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
