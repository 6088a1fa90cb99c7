"""Patterns of hints: the names of ops that a user's word for some of them means."""

from __future__ import annotations

import fnmatch
import re

from torchplace.compiler.graph import Graph
from torchplace.errors import OptionError
from torchplace.placement.topology.checks import did_you_mean

_WILD = re.compile(r"[*?\[]")


class Patterns:
    """The ops of a graph by their names, and by the paths of all modules that they are in.

    A pattern is, in this order: the name of an op; a pattern as `fnmatch` takes it, of op names and module paths
    (`transformer.h.3.*` means all of that block, the ops of its own `forward` too); the path of a module, which
    means all that is in it.
    """

    def __init__(self, graph: Graph) -> None:
        """Index the ops. Cost: linear in ops x depth of their modules."""
        self.names = {op.name: None for op in graph.ops}
        self.modules: dict[str, list[str]] = {}  # path -> ops of just this module
        for op in graph.ops:
            self.modules.setdefault(op.module, []).append(op.name)
        self.inside: dict[str, list[str]] = {}  # path -> ops of this module and all below it
        for path, ops in self.modules.items():
            for ancestor in _ancestors(path):
                self.inside.setdefault(ancestor, []).extend(ops)

    def matches(self, pattern: str) -> list[str]:
        """Names of the ops that a pattern means; none where it means nothing.

        Cost: linear in the ops for one with `*`, `?` or `[`, constant for a plain name.
        """
        if pattern in self.names:
            return [pattern]
        return self._like(pattern) if _WILD.search(pattern) else self.inside.get(pattern, [])

    def _like(self, pattern: str) -> list[str]:
        match = re.compile(fnmatch.translate(pattern)).match
        found = dict.fromkeys(name for name in self.names if match(name))
        for path, ops in self.modules.items():
            if match(path) or match(path + "."):
                found.update(dict.fromkeys(ops))
        return list(found)

    def unknown(self, what: str, pattern: str) -> OptionError:
        """The error for a pattern that means nothing; `what` says which option it was given for."""
        return OptionError(
            f"the {what} {pattern!r} matches no op and no module{did_you_mean(pattern, (*self.inside, *self.names))}"
            " (print the graph to see the names of its ops and the paths of its modules)"
        )


def _ancestors(path: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    steps = path.split(".")
    return [".".join(steps[: i + 1]) for i in range(len(steps))]
