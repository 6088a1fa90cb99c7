"""Hints: what a user asked of a placement, by options and in the code, and the ops that each hint is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torchplace.compiler.graph import Graph
from torchplace.errors import OptionError
from torchplace.placement.patterns import Patterns
from torchplace.placement.topology.checks import did_you_mean, listed


@dataclass(frozen=True)
class Hint:
    """One hint.

    Attributes:
        kind: `pin`: the ops are on the device; `together`: on one, whichever; `forbid`: on none of the devices.
        text: what errors call it.
        ops: the ops that it matches.
        devices: of a pin the one, of a `forbid` those that are ruled out.
    """

    kind: Literal["pin", "together", "forbid"]
    text: str
    ops: tuple[str, ...]
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wishes:
    """The hints that options hold, before any graph is known.

    Attributes:
        pins: pattern -> device.
        together: for each group, its patterns.
        forbid: pattern -> devices.
    """

    pins: Mapping[str, str]
    together: Sequence[Sequence[str]] = ()
    forbid: Mapping[str, Sequence[str]] | None = None


def read_hints(graph: Graph, devices: Sequence[str], wishes: Wishes, *, partial: bool = False) -> tuple[Hint, ...]:
    """Every hint for a graph: those of options, by the ops that their patterns match, and the graph's own (`place`).

    Args:
        graph: what is to be placed.
        devices: names of the devices.
        wishes: the options.
        partial: the patterns were matched with another graph before: one that matches nothing here is for that.

    Raises:
        OptionError: a pattern matches nothing (`Patterns`), or a device does not exist; names the hint.

    Cost: linear in the ops for each pattern with a wildcard.
    """
    found = [*_marks(graph, devices)]
    if wishes.pins or wishes.together or wishes.forbid:
        found += _options(_Matching(Patterns(graph), partial), devices, wishes)
    return tuple(hint for hint in found if hint.ops)


def _marks(graph: Graph, devices: Sequence[str]) -> Iterator[Hint]:
    """One hint for each device that `place` names in the code."""
    marked: dict[str, list[str]] = {}
    for op in graph.ops:
        if op.hint:
            if op.hint not in devices:
                where = f"op {op.name!r}" + (f" ({op.source})" if op.source else "")
                raise _no_device(f"tp.place({op.hint!r}) around {where}", op.hint, devices)
            marked.setdefault(op.hint, []).append(op.name)
    yield from (Hint("pin", f"tp.place({device!r})", tuple(ops), (device,)) for device, ops in marked.items())


def _options(matching: _Matching, devices: Sequence[str], wishes: Wishes) -> Iterator[Hint]:
    for pattern, device in wishes.pins.items():
        _require_devices(f"pins[{pattern!r}]", (device,), devices)
        yield Hint("pin", f"pin {pattern!r}: {device!r}", matching.all("pin", [pattern]), (device,))
    for patterns in wishes.together:
        yield Hint("together", f"together {list(patterns)}", matching.all("together pattern", patterns))
    for pattern, ruled_out in (wishes.forbid or {}).items():
        _require_devices(f"forbid[{pattern!r}]", ruled_out, devices)
        text = f"forbid {pattern!r}: {', '.join(map(repr, ruled_out))}"
        yield Hint("forbid", text, matching.all("forbid pattern", [pattern]), tuple(ruled_out))


@dataclass(frozen=True)
class _Matching:
    patterns: Patterns
    partial: bool

    def all(self, what: str, given: Iterable[str]) -> tuple[str, ...]:
        """The ops that any of some patterns means, each once."""
        found: dict[str, None] = {}
        for pattern in given:
            matched = self.patterns.matches(pattern)
            if not matched and not self.partial:
                raise self.patterns.unknown(what, pattern)
            found.update(dict.fromkeys(matched))
        return tuple(found)


def _require_devices(what: str, named: Iterable[str], devices: Sequence[str]) -> None:
    for device in named:
        if device not in devices:
            raise _no_device(what, device, devices)


def _no_device(what: str, device: str, devices: Sequence[str]) -> OptionError:
    return OptionError(
        f"{what} is {device!r}, which is no device{did_you_mean(str(device), devices)} (devices: {listed(devices)})"
    )
