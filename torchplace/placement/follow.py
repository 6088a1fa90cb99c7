"""Places a graph around state that lives somewhere already: a second shape, train after eval, after a graph break."""

from __future__ import annotations

from collections.abc import Mapping

from torchplace.compiler.graph import Graph, Op


def follow(graph: Graph, owners: Mapping[str, str], default: str) -> dict[str, str]:
    """Put every op where the state is that it writes or uses, or else where its largest input comes from.

    Args:
        graph: the ops.
        owners: name of a parameter or buffer -> the device that it lives on.
        default: device of ops that are joined to no state.

    Returns:
        Op name -> device. Cost: linear.
    """
    where, users = dict(owners), graph.users
    placed: dict[str, str] = {}
    for op in graph.ops:
        device = _device(op, owners, where)
        if device is not None:
            _put(op, device, placed, where)
    for op in reversed(graph.ops):  # what comes before any state goes to its first user that is placed
        if op.name not in placed:
            after = (u for v in op.outputs for u in users[v.name])
            _put(op, next((placed[u.name] for u in after if u.name in placed), default), placed, where)
    return {op.name: placed[op.name] for op in graph.ops}


def _device(op: Op, owners: Mapping[str, str], where: Mapping[str, str]) -> str | None:
    """The owner of what the op writes, else of the largest state that it takes, else where its largest input is."""
    written = [owners[name] for name in op.mutates if name in owners]
    if written:
        return written[0]
    known = [v for v in op.inputs if v.name in where]
    best = max(known, key=lambda v: (v.name in owners, v.nbytes), default=None)
    return None if best is None else where[best.name]


def _put(op: Op, device: str, placed: dict[str, str], where: dict[str, str]) -> None:
    placed[op.name] = device
    where.update((v.name, device) for v in op.outputs)
