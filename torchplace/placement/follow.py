"""Places a graph around state that lives somewhere already: a second shape, train after eval, after a graph break."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torchplace.compiler.graph import Graph, Op
from torchplace.placement.forbids import forbidden_devices
from torchplace.placement.groups import together_groups
from torchplace.placement.hints import Hint
from torchplace.placement.pins import resolve_pins


def follow(
    graph: Graph, owners: Mapping[str, str], devices: Sequence[str], hints: Sequence[Hint] = ()
) -> dict[str, str]:
    """Put every op where the state is that it writes or uses, or else where its largest input comes from.

    Args:
        graph: the ops.
        owners: name of a parameter or buffer -> the device that it lives on.
        devices: names of all devices; the first is for ops that are joined to no state.
        hints: what must hold whatever is near; where a device is forbidden, the next nearest is taken.

    Returns:
        Op name -> device.

    Raises:
        InfeasibleError: hints clash with each other, or with where state lives already; names both.

    Cost: linear, but for inputs of one op, which are sorted.
    """
    following = _Following(graph, owners, devices)
    if hints:
        following.constrain([*_state(graph, owners), *hints])
    return following.run()


def _state(graph: Graph, owners: Mapping[str, str]) -> Iterator[Hint]:
    """State that is written pins the ops that write it."""
    for op in graph.ops:
        for name in op.mutates:
            if name in owners:
                yield Hint("pin", f"state {name!r} (on {owners[name]!r} already)", (op.name,), (owners[name],))


class _Following:
    """What is known while groups of ops are placed, one after the other."""

    def __init__(self, graph: Graph, owners: Mapping[str, str], devices: Sequence[str]) -> None:
        self.graph, self.owners, self.devices = graph, owners, devices
        self.where = dict(owners)  # input or value -> device
        self.placed: dict[str, str] = {}
        self.forbidden: Mapping[str, frozenset[str]] = {}
        self.together: dict[str, list[Op]] = {}  # op -> its group, where that is more than itself

    def constrain(self, hints: Sequence[Hint]) -> None:
        """Keep to hints: what they fix is placed at once."""
        groups = together_groups(self.graph, (hint.ops for hint in hints if hint.kind == "together"))
        self.forbidden = forbidden_devices(self.graph, groups, hints, self.devices)
        ops = {op.name: op for op in self.graph.ops}
        self.together = {name: [ops[n] for n in group] for group in groups if len(group) > 1 for name in group}
        for name, device in resolve_pins(self.graph, groups, hints, self.forbidden, self.devices).items():
            self._put(ops[name], device)

    def run(self) -> dict[str, str]:
        users = self.graph.users
        for op in self.graph.ops:
            self._place(op, self._near(op))
        for op in reversed(self.graph.ops):  # what comes before any state goes to its first user that is placed
            after = (self.placed[u.name] for v in op.outputs for u in users[v.name] if u.name in self.placed)
            self._place(op, (*after, *self.devices))
        return {op.name: self.placed[op.name] for op in self.graph.ops}

    def _near(self, op: Op) -> Iterator[str]:
        """The owner of what the op writes; else that of the largest state that it takes, where the largest input is."""
        yield from (self.owners[name] for name in op.mutates if name in self.owners)
        known = [v for v in op.inputs if v.name in self.where]
        for value in sorted(known, key=lambda v: (v.name in self.owners, v.nbytes), reverse=True):
            yield self.where[value.name]

    def _place(self, op: Op, devices: Iterator[str] | Sequence[str]) -> None:
        """Put an op that has no place yet on the first of some devices that it may be on."""
        if op.name not in self.placed:
            allowed = (d for d in devices if d not in self.forbidden.get(op.name, ()))
            if (device := next(allowed, None)) is not None:
                for one in self.together.get(op.name, [op]):
                    self._put(one, device)

    def _put(self, op: Op, device: str) -> None:
        self.placed[op.name] = device
        self.where.update((v.name, device) for v in op.outputs)
