"""Pins: which ops are fixed before any solver starts, and where; whole groups at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torchplace.compiler.graph import Graph
from torchplace.errors import InfeasibleError
from torchplace.placement.hints import Hint


def resolve_pins(
    graph: Graph,
    groups: Iterable[Sequence[str]],
    hints: Sequence[Hint],
    forbidden: Mapping[str, frozenset[str]],
    devices: Sequence[str],
) -> dict[str, str]:
    """Op name -> device, for every op that hints fix: those that a pin matches, and all of their groups.

    A group that is left one device by what it is forbidden is fixed too.

    Raises:
        InfeasibleError: two hints want one op, or one group, in different places; names both.

    Cost: linear in the ops that the hints match.
    """
    pins = [hint for hint in hints if hint.kind == "pin"]
    if not pins and not forbidden:
        return {}
    wanted: dict[str, Hint] = {}  # op -> the pin that matched it
    for pin in pins:
        for op in pin.ops:
            other = wanted.setdefault(op, pin)
            if other.devices != pin.devices:
                raise clash(other, pin, named(graph, op))
    fixed: dict[str, str] = {}
    for group in groups:
        if (device := _device(graph, group, wanted, hints, forbidden, devices)) is not None:
            fixed.update(dict.fromkeys(group, device))
    return fixed


def _device(
    graph: Graph,
    group: Sequence[str],
    wanted: Mapping[str, Hint],
    hints: Sequence[Hint],
    forbidden: Mapping[str, frozenset[str]],
    devices: Sequence[str],
) -> str | None:
    ruled_out = forbidden.get(group[0], frozenset())
    pinned = [op for op in group if op in wanted]
    if not pinned:
        one_is_left = ruled_out and len(ruled_out) == len(devices) - 1
        return next(device for device in devices if device not in ruled_out) if one_is_left else None
    first = wanted[pinned[0]]
    for op in pinned[1:]:
        if wanted[op].devices != first.devices:
            both = f"{named(graph, pinned[0])} and {named(graph, op)}, which {why_together(group, hints)}"
            raise clash(first, wanted[op], both)
    device = first.devices[0]
    if device in ruled_out:
        against = next(hint for hint in forbids_of(group, hints) if device in hint.devices)
        ops = dict.fromkeys((pinned[0], next(op for op in group if op in against.ops)))
        together = f", which {why_together(group, hints)}" if len(ops) > 1 else ""
        raise clash(first, against, " and ".join(named(graph, op) for op in ops) + together)
    return device


def forbids_of(group: Sequence[str], hints: Iterable[Hint]) -> list[Hint]:
    """The `forbid` hints that are about an op of a group."""
    return [hint for hint in hints if hint.kind == "forbid" and not set(group).isdisjoint(hint.ops)]


def why_together(group: Sequence[str], hints: Iterable[Hint]) -> str:
    """Why the ops of a group stay together, as a clause; names the hints that say so."""
    asked = [hint.text for hint in hints if hint.kind == "together" and not set(group).isdisjoint(hint.ops)]
    return f"stay together by {' and '.join(asked)}" if asked else "write the same state and must stay together"


def named(graph: Graph, name: str) -> str:
    """An op for an error: its name, and its place in the user's code where that is known."""
    source = graph.op(name).source
    return f"op {name!r}" + (f" ({source})" if source else "")


def clash(one: Hint, other: Hint, what: str) -> InfeasibleError:
    """The error for two hints that cannot both hold."""
    return InfeasibleError(f"{one.text} and {other.text} clash over {what}; drop one of them")
