"""Foresight: what was found for a compiled function, in all captures, and the guards that other calls find the same."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch._dynamo.guards import install_guard
from torch._dynamo.source import GlobalStateSource
from torch._guards import Guard, TracingContext

from torchplace.compiler.findings import Finding, Findings, Outcomes, Read, line_now
from torchplace.compiler.formulas import Call

MOST = 8
"""Values of a line for which graphs are captured, before it is captured for all of them, with a graph break."""
MOST_EXPECTED = 4
"""The same, of values that are expected: a call that tries a graph in vain has run it up to there."""
MOST_UNEXPECTED = 4
"""Calls for which no graph is there, before nothing is expected any more if these are more than a quarter of all."""
_CALLS = 100
"""Calls after which there may be one graph more: what is expected may change for good, as a model learns."""


@dataclass
class Foresight:
    """What was found for a compiled function.

    Attributes:
        captures: context of a capture -> what was found in it.
        seen: line of the model -> what was found there, in each capture that has come to its end.
        varied: lines where too much was found.
        may_expect: says whether a call could begin anew, whose graph does not find what it expects.
        expects: how often something was expected.
        gave_up: whether no graph may any more: calls come to too much else.
        calls: how many have come to their end.
        unexpected: how many no graph was there for.
    """

    captures: MutableMapping[Any, Findings] = field(default_factory=WeakKeyDictionary)
    seen: dict[str, set[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(set))
    varied: set[str] = field(default_factory=set)
    may_expect: Callable[[], bool] = lambda: False
    expects: int = 0
    gave_up: bool = False
    calls: int = 0
    unexpected: int = 0

    @property
    def most(self) -> int:
        """Graphs that expect different things at one line."""
        return MOST_EXPECTED + self.calls // _CALLS

    def count_unexpected(self) -> None:
        """Count a call for which no graph is there; expect nothing any more, if these are too many."""
        self.unexpected += 1
        self.gave_up = self.unexpected >= MOST_UNEXPECTED and self.unexpected * 4 > self.calls

    def remember(self, finding: Finding) -> bool:
        """Note what was found, and guard it; False where other captures have found too much else at that line."""
        findings = self.captures.setdefault(TracingContext.get(), Findings(self._guard))
        now, seen = (*findings.at(finding.line), finding.value), self.seen[finding.line]
        most = MOST if finding.read else self.most
        if len(seen) >= most and not any(known[: len(now)] == now for known in seen):
            if finding.read is not None:
                self.varied.add(finding.line)
            return False
        self.expects += finding.read is None
        findings.found.append(finding)
        install_guard(findings.guard)  # again: what Dynamo has tried, and given up, may have taken it along
        return True

    def settle(self) -> None:
        """Count what was found in the capture that this thread is in the midst of: no trace of it will begin anew."""
        findings = self.captures.get(TracingContext.get())
        if findings is not None:
            for line in {found.line for found in findings.found}:
                self.seen[line].add(findings.at(line))

    def _guard(self, findings: Findings) -> Guard:
        """A guard of Dynamo's: it holds in calls of which all the same is found, if they have not tried it in vain."""

        def create(builder: Any, guard: Guard) -> None:
            names, expected = builder.scope["G"], findings.expected  # the trace has ended: nothing is added

            def holds(variables: Mapping[str, Any]) -> bool:
                if expected and (self.gave_up or is_vain(expected)):
                    return False
                try:
                    return findings.hold(calls_of(variables, names))
                except Exception:  # it is another call, then
                    return False

            said = ", ".join(dict.fromkeys(f"{found.line} finds {found.value}" for found in findings.found))
            builder.guard_manager.root.add_epilogue_lambda_guard(holds, [said], guard.user_stack)

        return Guard(GlobalStateSource(), create)


class _Local(threading.local):
    foresight: Foresight | None = None
    alike: Sequence[Mapping[str, Any]] = ()
    vain: Collection[Outcomes] = ()
    expecting: bool = True


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


@contextmanager
def tried_in_vain(outcomes: Collection[Outcomes]) -> Iterator[None]:
    """Within, graphs are not tried that expect this; more may be added."""
    before, _local.vain = _local.vain, outcomes
    try:
        yield
    finally:
        _local.vain = before


@contextmanager
def nothing_expected() -> Iterator[None]:
    """Within, nothing is expected."""
    before, _local.expecting = _local.expecting, False
    try:
        yield
    finally:
        _local.expecting = before


def found_now() -> tuple[str, ...]:
    """What was found in the capture that this thread is in the midst of: the graph is for that alone."""
    said: dict[str, list[str]] = defaultdict(list)
    findings = _now()
    for found in () if findings is None else findings.found:
        verb = "finds" if found.read else "expects"
        said[f"{'/'.join(Path(found.line).parts[-2:])} {verb}"].append(str(found.value))
    return tuple(f"{line} {', '.join(dict.fromkeys(values))}" for line, values in said.items())


def settle() -> None:
    """Count what was found in the capture that this thread is in the midst of."""
    if _local.foresight is not None:
        _local.foresight.settle()


def expected_now() -> Outcomes:
    """What the graph expects that this thread is in the midst of capturing."""
    findings = _now()
    return () if findings is None else findings.expected


def is_vain(outcomes: Outcomes) -> bool:
    """Whether a graph that expects this was tried in vain."""
    return outcomes in _local.vain


def _now() -> Findings | None:
    return None if _local.foresight is None else _local.foresight.captures.get(TracingContext.get())


def remembered(line: str, read: Read | None, value: Any) -> bool:
    """Note what was found at a line, or is expected; False where nothing is to be, or too much else was found there."""
    return _local.foresight is not None and _local.foresight.remember(Finding(line, read, value))


def are_wanted() -> bool:
    """Whether values are to be looked up."""
    return _local.foresight is not None


def may_expect() -> bool:
    """Whether a graph may expect what cannot be looked up."""
    foresight = _local.foresight
    if foresight is None or foresight.gave_up or not _local.expecting:
        return False
    return foresight.may_expect() and line_now() not in foresight.varied


def calls_of(variables: Mapping[str, Any], names: Mapping[str, Any], *, whole: bool = False) -> list[Call]:
    """What the graph is for: the call with these variables, or what is alike.

    Args:
        variables: locals.
        names: globals.
        whole: what is not given to each, such as buffers, may be read, too.
    """
    around: tuple[Mapping[str, Any], Mapping[str, Any]] = (variables, names) if whole else ({}, {})
    alike_ones = [Call({"L": {**around[0], **one}, "G": around[1]}) for one in _local.alike]
    return alike_ones or [Call({"L": variables, "G": names})]
