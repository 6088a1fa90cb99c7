"""Which device owns a piece of state: where a parameter, buffer or constant lives between calls."""

from __future__ import annotations

from collections.abc import Mapping

from torchplace.compiler.graph import STATE, Graph


def owner_ops(graph: Graph) -> dict[str, str | None]:
    """Input name -> name of the op whose device owns it: the first that uses it, in program order.

    Ops that write an input are in a group with its first user (`groups`), so state is written where it lives.

    Returns:
        An entry for every parameter, buffer and constant; None for one that no op uses. Cost: linear in the edges.
    """
    first: dict[str, str | None] = {v.name: None for v in graph.inputs if v.kind in STATE}
    for op in graph.ops:
        for value in op.inputs:
            if value.name in first and first[value.name] is None:
                first[value.name] = op.name
    return first


def owners(
    graph: Graph, placement: Mapping[str, str], default: str, fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Input name -> the device that owns it under a placement: what `lower` is given, and memory is counted by.

    Args:
        graph: the ops.
        placement: op name -> device, for every op.
        default: owner of state that no op uses: the topology's first device.
        fixed: input name -> device, of state that lives somewhere already.

    Returns:
        An entry for every parameter, buffer and constant. Cost: linear in the edges.
    """
    fixed = fixed or {}
    deciding = owner_ops(graph)
    return {name: fixed.get(name) or (placement[op] if op else default) for name, op in deciding.items()}
