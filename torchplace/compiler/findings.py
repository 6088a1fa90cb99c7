"""Findings: what was found in a call where a graph hangs on values, and the guard that others find the same."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch._dynamo.guards import install_guard
from torch._dynamo.source import GlobalStateSource
from torch._guards import Guard, TracingContext

from torchplace.compiler.formulas import Call

MOST = 8
"""Values of a line for which graphs are captured, before it is captured for all of them, with a graph break."""

Read = Callable[[Call], Any]


@dataclass(frozen=True)
class Finding:
    """What was found in the call that is captured.

    Attributes:
        line: of the model, that had to know: file and number.
        read: finds it in another call.
        value: what was found.
    """

    line: str
    read: Read
    value: Any

    def holds(self, call: Call) -> bool:
        """Whether another call has the same there."""
        return bool(self.read(call) == self.value)


class Findings:
    """What was found in one capture.

    Attributes:
        found: in order.
        guard: holds in calls of which all the same is found.
    """

    def __init__(self) -> None:
        """Nothing was found yet."""
        self.found: list[Finding] = []
        self.guard = Guard(GlobalStateSource(), _guarding(self.found))


@dataclass
class Foresight:
    """What was found for a compiled function.

    Attributes:
        captures: context of a capture -> what was found in it.
        seen: line of the model -> what was found there, in each capture.
    """

    captures: MutableMapping[Any, Findings] = field(default_factory=WeakKeyDictionary)
    seen: dict[str, set[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(set))

    def remember(self, finding: Finding) -> bool:
        """Note what was found, and guard it; False where other captures have found too much else at that line."""
        findings = self.captures.setdefault(TracingContext.get(), Findings())
        before = tuple(found.value for found in findings.found if found.line == finding.line)
        now, seen = (*before, finding.value), self.seen[finding.line]
        seen.discard(before)
        if len(seen) >= MOST and not any(known[: len(now)] == now for known in seen):
            return False
        seen.add(now)
        findings.found.append(finding)
        install_guard(findings.guard)  # again: what Dynamo has tried, and given up, may have taken it along
        return True


class _Local(threading.local):
    foresight: Foresight | None = None
    alike: Sequence[Mapping[str, Any]] = ()


_local = _Local()


@contextmanager
def foreseen_for(foresight: Foresight | None) -> Iterator[None]:
    """Within, values are looked up, for a compiled function; not so for None."""
    before, _local.foresight = _local.foresight, foresight
    try:
        yield
    finally:
        _local.foresight = before


@contextmanager
def alike(calls: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Within, a graph is for several calls, such as the micro-batches of a step: the same has to be found in all.

    Args:
        calls: the arguments of each, by name. Nothing else is looked into: a buffer may change from one to the next.
    """
    before, _local.alike = _local.alike, calls
    try:
        yield
    finally:
        _local.alike = before


def found_now() -> tuple[str, ...]:
    """What was found in the capture that this thread is in the midst of: the graph is for that alone."""
    said: dict[str, list[str]] = defaultdict(list)
    findings = None if _local.foresight is None else _local.foresight.captures.get(TracingContext.get())
    for found in () if findings is None else findings.found:
        said["/".join(Path(found.line).parts[-2:])].append(str(found.value))
    return tuple(f"{line} finds {', '.join(dict.fromkeys(values))}" for line, values in said.items())


def remembered(line: str, read: Read, value: Any) -> bool:
    """Note what was found at a line; False where nothing is to be looked up, or too much else was found there."""
    return _local.foresight is not None and _local.foresight.remember(Finding(line, read, value))


def are_wanted() -> bool:
    """Whether values are to be looked up."""
    return _local.foresight is not None


def calls_of(variables: Mapping[str, Any], names: Mapping[str, Any]) -> list[Call]:
    """What the graph is for: the call with these variables, or what is alike."""
    alike_ones = [Call({"L": one, "G": {}}) for one in _local.alike]
    return alike_ones or [Call({"L": variables, "G": names})]


def _guarding(findings: Sequence[Finding]) -> Callable[[Any, Guard], None]:
    """What makes a guard of Dynamo's that holds for calls of which all the same is found."""

    def create(builder: Any, guard: Guard) -> None:
        names = builder.scope["G"]

        def holds(variables: Mapping[str, Any]) -> bool:
            try:
                return all(found.holds(call) for call in calls_of(variables, names) for found in findings)
            except Exception:  # it is another call, then
                return False

        said = ", ".join(dict.fromkeys(f"{found.line} finds {found.value}" for found in findings))
        builder.guard_manager.root.add_epilogue_lambda_guard(holds, [said], guard.user_stack)

    return create
