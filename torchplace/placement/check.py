"""Checks a placement against its problem, by code that shares nothing with whoever made it.

Everything is derived again from the graph and the topology: neither the solvers' helpers nor the problem's own
sums are asked, so a fault in them shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from torchplace.compiler.graph import Graph, Op, Value
from torchplace.placement.problem import Problem


def check(problem: Problem, placement: Mapping[str, str]) -> list[str]:
    """Every rule that a placement breaks, one message each; an empty list when it is a valid answer.

    Rules: every op is on a device that exists; pins and the other hints hold; what must stay together does; what stays
    on a device (state, gradients, saved activations) fits its memory. Cost: linear in edges and in what hints match.
    """
    faults = [*_places(problem, placement)]
    faults += _pins(problem, placement)
    faults += _hints(problem, placement)
    if faults:
        return faults  # the rest needs a device for every op
    return [*_together(problem.graph, placement), *_memory(problem, placement)]


def _places(problem: Problem, placement: Mapping[str, str]) -> Iterator[str]:
    known = [device.name for device in problem.topology.devices]
    names = {op.name for op in problem.graph.ops}
    for op in problem.graph.ops:
        if op.name not in placement:
            yield f"op {op.name!r} has no device; expected one of {known}"
        elif placement[op.name] not in known:
            yield f"op {op.name!r} is on {placement[op.name]!r}, which is no device; expected one of {known}"
    yield from (f"{name!r} is placed, but is no op of the graph" for name in placement if name not in names)


def _pins(problem: Problem, placement: Mapping[str, str]) -> Iterator[str]:
    asked = {op: hint.devices[0] for hint in problem.hints if hint.kind == "pin" for op in hint.ops}
    for op, device in {**problem.pins, **asked}.items():
        if placement.get(op, device) != device:
            yield f"op {op!r} is pinned to {device!r}, but placed on {placement[op]!r}"


def _hints(problem: Problem, placement: Mapping[str, str]) -> Iterator[str]:
    for hint in problem.hints:
        where = {op: placement[op] for op in hint.ops if op in placement}
        if hint.kind == "together" and len(set(where.values())) > 1:
            yield f"{hint.text} is broken: its ops are on {sorted(set(where.values()))}"
        if hint.kind == "forbid":
            yield from (f"op {op!r} is on {d!r}, against {hint.text}" for op, d in where.items() if d in hint.devices)


def _together(graph: Graph, placement: Mapping[str, str]) -> Iterator[str]:
    """State is written on its owner's device, memory of no input where it was made."""
    memory = _memory_of(graph)
    home: dict[str, Op] = {}
    for op in graph.ops:
        for value in op.inputs:
            home.setdefault(value.name, op)
    home.update((v.name, op) for op in graph.ops for v in op.outputs)
    for op in graph.ops:
        for name in op.mutates:
            first = home.get(memory[name].name if name in memory else name, op)
            if placement[first.name] != placement[op.name]:
                yield (
                    f"op {op.name!r} writes %{name}, which lives with op {first.name!r} on "
                    f"{placement[first.name]!r}, but is placed on {placement[op.name]!r}"
                )


def _memory(problem: Problem, placement: Mapping[str, str]) -> Iterator[str]:
    held = _held(problem.graph, placement, problem.topology.devices[0].name, problem.training)
    for device in problem.topology.devices:
        if held[device.name] > device.memory:
            yield (
                f"device {device.name!r} holds {held[device.name]} bytes, has {device.memory}: "
                f"{held[device.name] - device.memory} too few"
            )


def _held(graph: Graph, placement: Mapping[str, str], default: str, training: bool) -> Counter[str]:
    """Device -> bytes that stay on it, counted storage by storage."""
    trained = {o.path for o in graph.outputs if training and o.kind == "gradient" and isinstance(o.value, Value)}
    users: dict[Value, Op] = {}
    for op in graph.ops:
        for value in op.inputs:
            users.setdefault(value, op)
    held: Counter[str] = Counter()
    for value in graph.inputs:
        if value.kind in ("parameter", "buffer", "constant"):
            copies = 1 + (value.kind == "parameter" and value.path in trained)
            held[placement[users[value].name] if value in users else default] += copies * value.nbytes
    for op, value in _saved(graph) if training else ():
        held[placement[op.name]] += value.nbytes
    return held


def _saved(graph: Graph) -> Iterator[tuple[Op, Value]]:
    """What forward ops make, views followed to what they view, and ops of the backward pass take."""
    memory = _memory_of(graph)
    taken = {memory[v.name] for op in graph.ops if op.phase != "forward" for v in op.inputs}
    return ((op, v) for op in graph.ops if op.phase == "forward" for v in op.outputs if v in taken)


def _memory_of(graph: Graph) -> dict[str, Value]:
    memory = {v.name: v for v in graph.inputs}
    for op in graph.ops:
        for value in op.outputs:
            memory[value.name] = value if value.base is None else memory[value.base]
    return memory
