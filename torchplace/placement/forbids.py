"""Forbidden devices: where ops must not be, whole groups at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torchplace.compiler.graph import Graph
from torchplace.errors import InfeasibleError
from torchplace.placement.hints import Hint
from torchplace.placement.pins import forbids_of, named, why_together


def forbidden_devices(
    graph: Graph, groups: Iterable[Sequence[str]], hints: Sequence[Hint], devices: Sequence[str]
) -> dict[str, frozenset[str]]:
    """Op name -> devices that it must not be on: what is forbidden to one op of a group is so to all of it.

    Returns:
        An entry for each op that something is forbidden to.

    Raises:
        InfeasibleError: a group is left no device; names the hints that take them.

    Cost: linear in the ops that the hints match, and in the ops.
    """
    own: dict[str, list[int]] = {}  # op -> the numbers of the hints that forbid it something
    for number, hint in enumerate(hints):
        for op in hint.ops if hint.kind == "forbid" else ():
            own.setdefault(op, []).append(number)
    found: dict[str, frozenset[str]] = {}
    unions: dict[frozenset[int], frozenset[str]] = {}  # many groups have the same hints
    for group in groups if own else ():
        numbers = frozenset(number for op in group for number in own.get(op, ()))
        if numbers not in unions:
            unions[numbers] = frozenset(device for number in numbers for device in hints[number].devices)
        if numbers:
            found.update(dict.fromkeys(group, unions[numbers]))
        if len(unions[numbers]) == len(devices):
            raise _nowhere(graph, group, hints)
    return found


def _nowhere(graph: Graph, group: Sequence[str], hints: Sequence[Hint]) -> InfeasibleError:
    taken = " and ".join(hint.text for hint in forbids_of(group, hints))
    rest = f" and {len(group) - 1} with it, which {why_together(group, hints)}" if len(group) > 1 else ""
    return InfeasibleError(f"no device is left for {named(graph, group[0])}{rest}: {taken}; allow one of them")
