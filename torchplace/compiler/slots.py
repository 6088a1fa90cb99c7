"""What a program knows of its values: how large they are, and in whose memory they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torchplace.compiler.carryover import NOTHING, Carryover
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Free, Run, Update
from torchplace.compiler.program import Program, Slot


def local_roots(graph: Graph, where: Mapping[str, str], before: Carryover = NOTHING) -> dict[str, str]:
    """Value name -> value whose memory it uses on the device that makes it; what is sent arrives as a copy.

    Args:
        graph: the ops.
        where: value name -> device that makes it, or on which it starts.
        before: what the step's program before this one leaves.
    """
    roots = {v.name: before.memory.get(v.name, (v.name, 0))[0] for v in graph.inputs}
    for op in graph.ops:
        for value in op.outputs:
            base = value.base
            local = base is not None and where[base] == where[value.name]
            roots[value.name] = value.name if base is None else roots[base] if local else base
    return roots


def describe_values(program: Program, graph: Graph, roots: Mapping[str, str], before: Carryover = NOTHING) -> None:
    """Give the program a slot for every value of the graph that its instructions name, in place."""
    values = graph.values
    named = {name: None for name in _named(program) if name in values}
    named.update(dict.fromkeys(roots[name] for name in list(named)))
    for name in named:
        root, value = roots[name], values[name]
        _, memory = before.memory.get(name, (name, value.storage_bytes))
        span = memory if root == name else value.storage_bytes
        program.values[name] = Slot(
            value.nbytes, None if root == name else root, None if span == value.nbytes else span
        )


def _named(program: Program) -> Iterable[str]:
    yield from program.inputs
    for _, instruction in program:
        if isinstance(instruction, Run):
            yield from (*instruction.inputs, *instruction.outputs)
        elif isinstance(instruction, Update):
            yield from (instruction.state, instruction.value)
        elif not isinstance(instruction, Free):
            yield instruction.value
