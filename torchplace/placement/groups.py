"""What must stay together: ops that write state are on the device of its owner; and what hints keep together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torchplace.compiler.graph import Graph
from torchplace.compiler.tasks import state_readers

Groups = tuple[tuple[str, ...], ...]
"""Every op in exactly one group: in the order of their first ops, and within each in program order."""


def colocation_groups(graph: Graph, together: Iterable[Sequence[str]] = ()) -> Groups:
    """The ops, in groups that must each be on one device; most groups are a single op.

    Ops that write the same memory are a group, together with the op that decides where this memory is: the first
    that uses it (see `owners`), or the one that makes it where it is no input's.

    Args:
        graph: the ops.
        together: sets of ops that are kept together, too.

    Returns:
        The groups. Cost: near-linear.
    """
    leader = {op.name: op.name for op in graph.ops}
    if any(op.mutates for op in graph.ops):
        _join_writers(graph, leader)
    return _joined(leader, together)


def state_groups(graph: Graph) -> list[list[str]]:
    """For every state that is written: the forward ops that read it, which in a pipeline are where it is.

    Each micro-batch reads what the one before has written. Cost: linear in the edges.
    """
    groups = ([op.name for op in ops] for ops in state_readers(graph).values())
    return [ops for ops in groups if len(ops) > 1]


def together_groups(graph: Graph, together: Iterable[Sequence[str]]) -> Groups:
    """The ops, in groups that hints alone keep together, whatever state they write. Cost: near-linear."""
    return _joined({op.name: op.name for op in graph.ops}, together)


def _joined(leader: dict[str, str], together: Iterable[Sequence[str]]) -> Groups:
    for ops in together:
        for op in ops[1:]:
            leader[_find(leader, op)] = _find(leader, ops[0])
    groups: dict[str, list[str]] = {}
    for op in leader:
        groups.setdefault(_find(leader, op), []).append(op)
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
