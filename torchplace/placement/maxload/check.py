"""Checks a split of a published instance from its nodes and edges alone; shares no code with what makes splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import networkx as nx

from torchplace.placement.maxload.instance import Instance


def max_load(instance: Instance, split: Mapping[str, str]) -> float:
    """The largest load of a split, node by node and edge by edge.

    Args:
        instance: whose split it is.
        split: node id -> `fpga0`, `cpu0`...
    """
    loads: dict[str, float] = defaultdict(float)
    for node in instance.nodes:
        device = split[str(node.id)]
        loads[device] += node.accelerator if device.startswith("fpga") else node.cpu
    paid: set[tuple[int, str]] = set()
    for edge in instance.edges:
        made, taken = split[str(edge.source)], split[str(edge.target)]
        for device in (made, taken) if made != taken else ():
            if device.startswith("fpga") and (edge.source, device) not in paid:
                paid.add((edge.source, device))
                loads[device] += edge.cost
    return max(loads.values(), default=0.0)


def faults(instance: Instance, split: Mapping[str, str]) -> Iterator[str]:
    """What makes a split infeasible: devices, support, memory, colours."""
    allowed = {f"fpga{i}" for i in range(instance.accelerators)} | {f"cpu{i}" for i in range(instance.cpus)}
    held: dict[str, float] = defaultdict(float)
    colors: dict[int, set[str]] = defaultdict(set)
    for node in instance.nodes:
        device = split.get(str(node.id), "nothing")
        if device not in allowed:
            yield f"node {node.id} is on {device}, which there is not"
        elif device.startswith("fpga") and not node.supported:
            yield f"node {node.id} is on {device}, but no accelerator can run it"
        held[device] += node.size
        if node.color is not None:
            colors[node.color].add(device)
    for device, size in held.items():
        if device.startswith("fpga") and size > instance.capacity:
            yield f"{device} holds {size:.6g} bytes, has {instance.capacity:.6g}"
    for color, devices in colors.items():
        if len(devices) > 1:
            yield f"colour {color} is on {', '.join(sorted(devices))}"


def is_contiguous(instance: Instance, split: Mapping[str, str]) -> bool:
    """Whether no path of forward nodes leaves a device and comes back to it. Cost: O(devices x edges)."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    forward = {node.id for node in instance.nodes if not node.backward}
    graph.add_nodes_from(forward)
    graph.add_edges_from((e.source, e.target) for e in instance.edges if {e.source, e.target} <= forward)
    for device in set(split.values()):
        mine = {node for node in forward if split[str(node)] == device}
        left = {after for node in mine for after in graph.successors(node)} - mine
        reached = set(left)
        while left:
            left = {after for node in left for after in graph.successors(node)} - reached
            reached |= left
        if reached & mine:
            return False
    return True
