"""Values that follow from integers alone, looked up while a graph is traced: lengths, grids, what a mask leaves out.

`if mask.any():` and `for height, width in sizes.tolist():` decide what a graph is, and Dynamo breaks it there, for it
traces without values. Where all that a value hangs on are integers and truths that the call was given, the value is
computed there and then, and the graph is captured for what it came to. A guard computes it anew in every call: where it
comes to something else, that is another graph, as for another dtype. What hangs on numbers that a model computes with
is not looked up: that would run the model in a guard, and be something else in every call.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import sympy
import torch
from sympy.core.relational import Relational
from torch._dynamo.exc import UserError
from torch._dynamo.guards import install_guard
from torch._dynamo.source import GlobalStateSource
from torch._dynamo.symbolic_convert import tls
from torch._guards import Guard, TracingContext
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

from torchplace.compiler.formulas import Call, Formula, formula_of, formula_of_symbol

MOST = 8
"""Values of a line for which graphs are captured, before it is captured for all of them, with a graph break."""

_evaluate = ShapeEnv._evaluate_expr


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


@dataclass
class Foresight:
    """What was found for a compiled function.

    Attributes:
        captures: context of a capture -> what was found in it.
        seen: line of the model -> what was found there, in each capture.
    """

    captures: MutableMapping[Any, list[Finding]] = field(default_factory=WeakKeyDictionary)
    seen: dict[str, set[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(set))

    def remember(self, finding: Finding) -> bool:
        """Note what was found, and guard it; False where other captures have found too much else at that line."""
        findings = self.captures.setdefault(TracingContext.get(), [])
        before = tuple(found.value for found in findings if found.line == finding.line)
        now, seen = (*before, finding.value), self.seen[finding.line]
        seen.discard(before)
        if len(seen) >= MOST and not any(known[: len(now)] == now for known in seen):
            return False
        seen.add(now)
        findings.append(finding)
        if len(findings) == 1:
            install_guard(Guard(GlobalStateSource(), _guarding(findings)))
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


def foreseen_now() -> tuple[str, ...]:
    """What was found in the capture that this thread is in the midst of: the graph is for that alone."""
    said: dict[str, list[str]] = defaultdict(list)
    captures = {} if _local.foresight is None else _local.foresight.captures
    for found in captures.get(TracingContext.try_get(), ()):
        said[Path(found.line).name].append(str(found.value))
    return tuple(f"{line} finds {', '.join(dict.fromkeys(values))}" for line, values in said.items())


def values_are_foreseen() -> AbstractContextManager[Any]:
    """Within, sizes and numbers that Dynamo would have to know are looked up."""
    return mock.patch.object(ShapeEnv, "_evaluate_expr", _evaluated)


def truth_of_branch(tx: Any, value: Any) -> bool | None:
    """Which way a branch on a value goes, and a guard for it; None where that cannot be foreseen.

    Args:
        tx: Dynamo's translator of the code.
        value: a tensor, or a number that hangs on values, in Dynamo's terms.
    """
    if not value.is_tensor():
        try:
            return bool(value.sym_num)
        except (GuardOnDataDependentSymNode, UserError):
            return None
    formula = formula_of(value.as_proxy().node)
    return None if formula is None else _looked_up(tx.output.root_tx, lambda call: bool(call.value(formula)))


def is_foreseeable(tx: Any, value: Any) -> bool:
    """Whether what hangs on a tensor can be looked up; it is the same in all calls that are alike.

    Args:
        tx: Dynamo's translator of the code.
        value: in Dynamo's terms.
    """
    formula = formula_of(value.as_proxy().node) if value.is_tensor() else None
    if formula is None or _local.foresight is None:
        return False
    found = _read(tx.output.root_tx, lambda call: call.value(formula))
    return bool(found) and all(torch.equal(found[0], other) for other in found[1:])


def _evaluated(self: Any, expr: sympy.Basic, *args: Any, **kwargs: Any) -> Any:
    """What an expression of sizes and numbers comes to; what hangs on values is looked up where that can be done."""
    try:
        return _evaluate(self, expr, *args, **kwargs)
    except GuardOnDataDependentSymNode:
        found = _found(self, expr)
        if found is None:
            raise
    for known, value in found.items():  # the graph checks it, too: so the rest of the trace, and AOTAutograd, know
        self.guard_or_defer_runtime_assert(_holds(known, value), f"{known} is no longer {value}")
    left = expr.xreplace(found)
    return _evaluate(self, left) if left.free_symbols else left


def _holds(expr: sympy.Basic, value: sympy.Basic) -> sympy.Basic:
    return expr if value is sympy.true else sympy.Not(expr) if value is sympy.false else sympy.Eq(expr, value)


def _found(shapes: Any, expr: sympy.Basic) -> dict[sympy.Basic, sympy.Basic] | None:
    """What the values that an expression hangs on come to in this call, each with a guard; None if one has none.

    Of a number that is compared with another, whether it is so; of others, what they are.
    """
    tx = getattr(tls, "current_tx", None)
    if tx is None or tx.output.shape_env is not shapes:
        return None
    is_compared = isinstance(expr, Relational) and {side.is_Symbol or side.is_number for side in expr.args} == {True}
    found = {}
    for symbol in expr.free_symbols - shapes.backed_var_to_val.keys():
        formula = formula_of_symbol(tx.output.graph, symbol)
        wanted = expr if is_compared and expr.free_symbols == {symbol} else symbol
        value = formula and _looked_up(tx.output.root_tx, _reading(wanted, symbol, formula))
        if value is None:
            return None
        found[wanted] = value
    return found


def _reading(expr: sympy.Basic, symbol: sympy.Basic, formula: Formula) -> Read:
    return lambda call: expr.xreplace({symbol: sympy.sympify(call.value(formula))})


def _looked_up(tx: Any, read: Read) -> Any:
    """What is read of the call that is traced, and a guard for it; None where that fails.

    So it does where too much else was found at that line, where tensors have no values, and where calls are not alike.
    """
    found = _read(tx, read)
    if _local.foresight is None or not found or any(other != found[0] for other in found):
        return None
    return found[0] if _local.foresight.remember(Finding(_line(), read, found[0])) else None


def _read(tx: Any, read: Read) -> list[Any]:
    """What is read of the call that is traced, or of all that are alike; nothing where that fails."""
    calls = _calls(tx.f_locals, tx.f_globals)
    with ThreadPoolExecutor(1) as apart:  # the modes, and the settings, of this thread are those of the trace
        try:
            return list(apart.map(read, calls))
        except Exception:
            return []


def _calls(variables: Mapping[str, Any], names: Mapping[str, Any]) -> list[Call]:
    """What the graph is for: the call with these variables, or what is alike."""
    alike_ones = [Call({"L": one, "G": {}}) for one in _local.alike]
    return alike_ones or [Call({"L": variables, "G": names})]


def _line() -> str:
    """Where in the model the trace is: the innermost line that is not torch's."""
    frames = [frame for frame in TracingContext.extract_stack() if not frame.filename.startswith(_TORCH)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "torch"


_TORCH = str(Path(torch.__file__).parent)


def _guarding(findings: Sequence[Finding]) -> Callable[[Any, Guard], None]:
    """What makes a guard of Dynamo's that holds for calls of which all the same is found."""

    def create(builder: Any, guard: Guard) -> None:
        names = builder.scope["G"]

        def holds(variables: Mapping[str, Any]) -> bool:
            try:
                return all(found.holds(call) for call in _calls(variables, names) for found in findings)
            except Exception:  # it is another call, then
                return False

        said = ", ".join(dict.fromkeys(f"{found.line} finds {found.value}" for found in findings))
        builder.guard_manager.root.add_epilogue_lambda_guard(holds, [said], guard.user_stack)

    return create
