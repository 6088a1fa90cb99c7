"""Values that follow from integers alone, looked up while a graph is traced: lengths, grids, what a mask leaves out.

`if mask.any():` and `for height, width in sizes.tolist():` decide what a graph is, and Dynamo breaks it there, for it
traces without values. Where all that a value hangs on are integers and truths that the call was given, the value is
computed there and then, and the graph is captured for what it came to. A guard computes it anew in every call: where it
comes to something else, that is another graph, as for another dtype. What hangs on numbers that a model computes with
is not looked up: that would run the model in a guard, and be something else in every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

import sympy
import torch
from sympy.core.relational import Relational
from torch._dynamo.exc import UserError
from torch._dynamo.symbolic_convert import tls
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv

from torchplace.compiler.early import begin_anew, known_early, was_late
from torchplace.compiler.findings import Read, line_now, read_apart
from torchplace.compiler.foresight import are_wanted, calls_of, remembered
from torchplace.compiler.formulas import Formula, binding_of, formula_of, formula_of_symbol, unbacked_in
from torchplace.compiler.speculation import expected_value

Number = TypeVar("Number", bool, int)

_evaluate = ShapeEnv._evaluate_expr


@contextmanager
def values_are_foreseen() -> Iterator[None]:
    """Within, sizes and numbers that Dynamo would have to know are looked up."""
    with mock.patch.object(ShapeEnv, "_evaluate_expr", _evaluated), known_early(_find):
        yield


def truth_of_branch(tx: Any, value: Any) -> bool | None:
    """Which way a branch on a value goes, and a guard for it; None where that cannot be foreseen.

    Args:
        tx: Dynamo's translator of the code.
        value: a tensor, or a number that hangs on values, in Dynamo's terms.
    """
    if not value.is_tensor():
        return number_in(value, bool)
    formula = formula_of(value.as_proxy().node) if are_wanted() else None
    return None if formula is None else _looked_up(tx.output.root_tx, lambda call: bool(call.value(formula)))


def number_in(value: Any, kind: Callable[[Any], Number]) -> Number | None:
    """What a number of Dynamo's that hangs on values is, and a guard for it; None where that cannot be foreseen.

    Args:
        value: in Dynamo's terms.
        kind: of number, `int` or `bool`.
    """
    try:
        return kind(value.sym_num)
    except (GuardOnDataDependentSymNode, UserError):
        begin_anew(tls.current_tx)
        return None


def is_foreseeable(tx: Any, value: Any) -> bool:
    """Whether what hangs on a tensor can be looked up; it is the same in all calls that are alike.

    Args:
        tx: Dynamo's translator of the code.
        value: in Dynamo's terms.
    """
    formula = formula_of(value.as_proxy().node) if are_wanted() and value.is_tensor() else None
    if formula is None:
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
    for known, value in found.items():
        _tell(self, known, value)
        if known.is_Symbol:
            was_late(tls.current_tx, known, alike=formula_of_symbol(tls.current_tx.output.graph, known) is None)
    left = expr.xreplace(found)
    return _evaluate(self, left) if left.free_symbols else left


def _find(tx: Any, symbol: sympy.Symbol) -> None:
    """Find what a symbol stands for; nothing where that cannot be done."""
    for known, value in (_found(tx.output.shape_env, symbol) or {}).items():
        _tell(tx.output.shape_env, known, value)


def _tell(shapes: Any, known: sympy.Basic, value: sympy.Basic) -> None:
    """Let the graph check what was found: so the rest of the trace, and AOTAutograd, know it."""
    shapes.guard_or_defer_runtime_assert(_holds(known, value), f"{known} is no longer {value}")


def _holds(expr: sympy.Basic, value: sympy.Basic) -> sympy.Basic:
    return expr if value is sympy.true else sympy.Not(expr) if value is sympy.false else sympy.Eq(expr, value)


def _found(shapes: Any, expr: sympy.Basic) -> dict[sympy.Basic, sympy.Basic] | None:
    """What the values that an expression hangs on come to in this call, each with a guard; None if one has none.

    Of a number that is compared with another, whether it is so; of others, what they are.
    """
    tx = getattr(tls, "current_tx", None)
    if tx is None or tx.output.shape_env is not shapes or not are_wanted():
        return None
    is_compared = isinstance(expr, Relational) and {side.is_Symbol or side.is_number for side in expr.args} == {True}
    found = {}
    for symbol in expr.free_symbols - shapes.backed_var_to_val.keys():
        formula = formula_of_symbol(tx.output.graph, symbol)
        if formula is None:
            _know_bounds(tx, symbol)
        wanted = expr if is_compared and expr.free_symbols == {symbol} else symbol
        value = formula and _looked_up(tx.output.root_tx, _reading(wanted, symbol, formula))
        if value is None:
            value = expected_value(tx, symbol, wanted)
        if value is None:
            return None
        found[wanted] = value
    return found


def _know_bounds(tx: Any, symbol: sympy.Symbol) -> None:
    """Of a size that hangs on numbers, as in `x[:n]`, know these early: then it does not."""
    node = binding_of(tx.output.graph, symbol)
    for given in () if node is None else node.all_input_nodes:
        for number in unbacked_in(given):
            if number != symbol and formula_of_symbol(tx.output.graph, number) is not None:
                was_late(tx, number)


def _reading(expr: sympy.Basic, symbol: sympy.Basic, formula: Formula) -> Read:
    return lambda call: expr.xreplace({symbol: sympy.sympify(call.value(formula))})


def _looked_up(tx: Any, read: Read) -> Any:
    """What is read of the call that is traced, and a guard for it; None where that fails.

    So it does where too much else was found at that line, where tensors have no values, and where calls are not alike.
    """
    found = _read(tx, read)
    same = bool(found) and all(other == found[0] for other in found)
    return found[0] if same and remembered(line_now(), read, found[0]) else None


def _read(tx: Any, read: Read) -> list[Any]:
    """What is read of the call that is traced, or of all that are alike; nothing where that fails."""
    return read_apart(read, calls_of(tx.f_locals, tx.f_globals))
