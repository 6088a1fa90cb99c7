"""What was found in one capture, and whether it is found in calls."""

from __future__ import annotations

from typing import Any

from torch._dynamo.source import GlobalStateSource
from torch._guards import Guard

from torchplace.compiler.findings import Finding, Findings
from torchplace.compiler.formulas import Call


def findings(*found: Finding) -> Findings:
    made = Findings(lambda _: Guard(GlobalStateSource(), lambda builder, guard: None))
    made.found += found
    return made


def call(**given: Any) -> Call:
    return Call({"L": given, "G": {}})


def n_of(given: Call) -> Any:
    return given.variables["L"]["n"]


def test_it_holds_in_calls_of_which_all_the_same_is_found() -> None:
    made = findings(Finding("a.py:1", n_of, 3), Finding("a.py:2", lambda given: n_of(given) > 2, True))
    assert made.hold([call(n=3), call(n=3)])
    assert not made.hold([call(n=3), call(n=4)])


def test_nothing_can_be_said_of_what_is_expected() -> None:
    made = findings(Finding("a.py:1", None, True), Finding("a.py:2", n_of, 3), Finding("a.py:1", None, False))
    assert made.hold([call(n=3)])
    assert made.expected == (("a.py:1", True), ("a.py:1", False))
    assert made.at("a.py:1") == (True, False)
