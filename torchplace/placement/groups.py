"""What must stay together: ops that write state are on the device of its owner."""

from __future__ import annotations

from torchplace.compiler.graph import Graph


def colocation_groups(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """The ops, in groups that must each be on one device; most groups are a single op.

    Ops that write the same memory are a group, together with the op that decides where this memory is: the first
    that uses it (see `owners`), or the one that makes it where it is no input's.

    Returns:
        Groups in the order of their first ops; the ops of a group in program order. Cost: near-linear.
    """
    leader = {op.name: op.name for op in graph.ops}
    if any(op.mutates for op in graph.ops):
        _join_writers(graph, leader)
    groups: dict[str, list[str]] = {}
    for op in graph.ops:
        groups.setdefault(_find(leader, op.name), []).append(op.name)
    return tuple(tuple(group) for group in groups.values())


def _join_writers(graph: Graph, leader: dict[str, str]) -> None:
    root = graph.storage()
    deciding = {v.name: op.name for op in graph.ops for v in op.outputs}
    for op in graph.ops:
        for value in op.inputs:
            deciding.setdefault(value.name, op.name)
    for op in graph.ops:
        for name in op.mutates:
            partner = deciding.get(root.get(name, name), op.name)
            leader[_find(leader, op.name)] = _find(leader, partner)


def _find(leader: dict[str, str], name: str) -> str:
    while leader[name] != name:
        leader[name] = leader[leader[name]]  # halve the path: the next look-up is shorter
        name = leader[name]
    return name
