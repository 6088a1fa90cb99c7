"""Pins: what a user fixed before any solver starts, from names and patterns to a device for each op."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence

from torchplace.compiler.graph import Graph
from torchplace.errors import InfeasibleError, OptionError
from torchplace.placement.topology.checks import did_you_mean, listed

_WILD = re.compile(r"[*?\[]")


def resolve_pins(
    graph: Graph, groups: Iterable[Sequence[str]], pins: Mapping[str, str], devices: Sequence[str]
) -> dict[str, str]:
    """Op name -> device, for every op that the pins fix: those that they match, and all of their groups.

    A key is, in this order: the name of an op; a pattern as `fnmatch` takes it, of op names and module paths
    (`transformer.h.3.*` means all of that block, the ops of its own `forward` too); the path of a module, which
    means all that is in it.

    Raises:
        OptionError: a key matches nothing, or a device does not exist.
        InfeasibleError: two pins want one op, or one group, on different devices; names both.

    Cost: linear in the ops for each pattern, constant for each plain name.
    """
    if not pins:
        return {}
    wanted: dict[str, str] = {}  # op -> the key that matched it
    index = _Index(graph)
    for key, device in pins.items():
        if device not in devices:
            raise OptionError(
                f"pins[{key!r}] is {device!r}, which is no device{did_you_mean(str(device), devices)}"
                f" (devices: {listed(devices)})"
            )
        for op in index.matches(key):
            other = wanted.setdefault(op, key)
            if pins[other] != device:
                raise _clash(pins, other, key, f"op {op!r}")
    return _over_groups(groups, pins, wanted)


def _over_groups(groups: Iterable[Sequence[str]], pins: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    fixed: dict[str, str] = {}
    for group in groups:
        pinned = [op for op in group if op in wanted]
        for op in pinned[1:]:
            if pins[wanted[op]] != pins[wanted[pinned[0]]]:
                what = f"ops {pinned[0]!r} and {op!r}, which write the same state and must stay together"
                raise _clash(pins, wanted[pinned[0]], wanted[op], what)
        fixed.update((op, pins[wanted[pinned[0]]]) for op in group if pinned)
    return fixed


def _clash(pins: Mapping[str, str], one: str, other: str, what: str) -> InfeasibleError:
    return InfeasibleError(
        f"the pins {one!r}: {pins[one]!r} and {other!r}: {pins[other]!r} clash over {what}; drop one of them"
    )


class _Index:
    """The ops by their names, and by the paths of all modules that they are in."""

    def __init__(self, graph: Graph) -> None:
        self.names = {op.name for op in graph.ops}
        self.modules: dict[str, list[str]] = {}  # path -> ops of just this module
        for op in graph.ops:
            self.modules.setdefault(op.module, []).append(op.name)
        self.inside: dict[str, list[str]] = {}  # path -> ops of this module and all below it
        for path, ops in self.modules.items():
            for ancestor in _ancestors(path):
                self.inside.setdefault(ancestor, []).extend(ops)

    def matches(self, key: str) -> list[str]:
        """Names of the ops that a key means.

        Raises:
            OptionError: none.
        """
        if key in self.names:
            return [key]
        found = self._like(key) if _WILD.search(key) else self.inside.get(key, [])
        if not found:
            raise OptionError(
                f"the pin {key!r} matches no op and no module{did_you_mean(key, (*self.inside, *self.names))}"
                " (print the graph to see the names of its ops and the paths of its modules)"
            )
        return found

    def _like(self, pattern: str) -> list[str]:
        match = re.compile(fnmatch.translate(pattern)).match
        found = dict.fromkeys(name for name in self.names if match(name))
        for path, ops in self.modules.items():
            if match(path) or match(path + "."):
                found.update(dict.fromkeys(ops))
        return list(found)


def _ancestors(path: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    steps = path.split(".")
    return [".".join(steps[: i + 1]) for i in range(len(steps))]
