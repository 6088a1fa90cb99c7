"""What one program of a step leaves to the next: whose memory its inputs stand in, and what goes on beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchplace.compiler.graph import STATE, Graph
from torchplace.compiler.instructions import Recv
from torchplace.compiler.program import Program

Place = tuple[str, str]
"""A piece of memory: the device, and the value that it was made for (or the input that it is)."""


@dataclass(frozen=True)
class Carryover:
    """What a program finds when it starts, beyond its own inputs.

    Attributes:
        memory: input -> (the input in whose memory it stands, perhaps itself; bytes of that memory).
        lent: inputs whose memory stays when the program frees them: the caller's, or that of state.
        covered: state whose memory one of the inputs stands in.
        caller: device -> bytes of the caller's that no input stands in: what went into the programs before this one,
            and what they returned.
    """

    memory: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    lent: frozenset[str] = frozenset()
    covered: frozenset[str] = frozenset()
    caller: Mapping[str, int] = field(default_factory=dict)


NOTHING = Carryover()
"""What the first program of a step finds."""


def carry_over(program: Program, graph: Graph, following: Graph) -> Carryover:
    """What a program leaves to the next.

    The caller holds what it gave and what it got until the step is over; what was saved goes when it is freed.

    Args:
        program: that comes first.
        graph: that it was lowered from.
        following: the graph of the next; its inputs are called as the first one's outputs.

    Cost: linear.
    """
    received = {(device, i.value) for device, i in program if isinstance(i, Recv)}
    ends = {e.value: e.device for e in program.outputs if e.value is not None}

    def place(name: str, device: str) -> Place:
        base = program.values[name].base
        return device, name if base is None or (device, name) in received else base

    state = {place(n, e.device) for n, e in program.inputs.items() if e.resident}
    caller = {place(n, e.device) for n, e in program.inputs.items() if e.lent}
    caller |= {
        place(e.value, e.device)
        for o, e in zip(graph.outputs, program.outputs, strict=True)
        if o.kind == "output" and e.value is not None
    } - state
    groups: dict[Place, list[str]] = {}
    for value in following.inputs:
        if value.kind in STATE and value.name in program.inputs:
            groups.setdefault((program.inputs[value.name].device, value.name), []).append(value.name)
        elif value.name in ends:
            groups.setdefault(place(value.name, ends[value.name]), []).append(value.name)
    memory: dict[str, tuple[str, int]] = {}
    for (_, root), names in groups.items():
        first, nbytes = root if root in names else names[0], program.values[root].memory
        memory.update((name, (first, nbytes)) for name in names)
    standing: dict[str, int] = {}
    for device, root in sorted(caller - groups.keys()):
        standing[device] = standing.get(device, 0) + program.values[root].memory
    kept = {name for key, names in groups.items() if key in caller or key in state for name in names}
    covered = {root for device, root in groups if (device, root) in state}
    return Carryover(memory, frozenset(kept), frozenset(covered), standing)
