"""A trace that was late to know a number begins anew, once for each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import sympy
from torch._dynamo.exc import UnspecializeRestartAnalysis
from torch._dynamo.symbolic_convert import SpeculationLog

from torchplace.compiler import early
from torchplace.compiler.early import begin_anew, was_late


def test_a_trace_begins_anew_once_for_each_number() -> None:
    tx = SimpleNamespace(speculation_log=SpeculationLog(), output=SimpleNamespace())
    begin_anew(tx)
    for symbol in (sympy.Symbol("u0"), sympy.Symbol("u1")):
        was_late(tx, symbol)
        with pytest.raises(UnspecializeRestartAnalysis):
            begin_anew(tx)
        was_late(tx, symbol)
        begin_anew(tx)


def test_it_does_not_begin_anew_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "_MOST", 1)
    tx = SimpleNamespace(speculation_log=SpeculationLog(), output=SimpleNamespace())
    was_late(tx, sympy.Symbol("u0"))
    with pytest.raises(UnspecializeRestartAnalysis):
        begin_anew(tx)
    was_late(tx, sympy.Symbol("u1"))
    begin_anew(tx)
