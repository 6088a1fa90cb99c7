"""Numbers that were found late, found early: what a graph had to know of a number, it knows from where that is made.

A number that hangs on values may be a size of many tensors before the trace has to know it (`foreseen`). From there on
it is known; what was traced before has it as a symbol, and AOTAutograd, which traces again, may not see the two agree.
So the trace begins anew, and looks the number up where it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest import mock

import sympy
from torch import fx
from torch._dynamo.exc import BackendCompilerFailed, UnspecializeRestartAnalysis
from torch._dynamo.output_graph import OutputGraph
from torch._dynamo.symbolic_convert import tls
from torch._dynamo.utils import get_fake_value, set_example_value
from torch._dynamo.variables import builder

from torchplace.compiler.findings import line_now
from torchplace.errors import Unexpected

_MOST = 30
"""Times that a trace begins anew."""

_compile_subgraph = OutputGraph.compile_subgraph


@contextmanager
def known_early(find: Callable[[Any, sympy.Symbol], None]) -> Iterator[None]:
    """Within, traces begin anew that have found a number late.

    Args:
        find: given Dynamo's translator and a symbol that was just made, finds what it stands for.
    """

    def made(node: fx.Node, value: Any) -> None:
        set_example_value(node, value)
        tx = getattr(tls, "current_tx", None)
        for symbol in node.meta.get("unbacked_bindings", {}) if tx is not None else ():
            line = _made(tx)[symbol.name] = line_now()
            if {symbol.name, line} & _wanted(tx):
                find(tx, symbol)

    def tried(node: fx.Node, tx: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return get_fake_value(node, tx, *args, **kwargs)
        except Exception:
            begin_anew(tx)
            raise

    with (
        mock.patch.object(builder, "set_example_value", made),
        mock.patch.object(builder, "get_fake_value", tried),
        mock.patch.object(OutputGraph, "compile_subgraph", _compiled),
    ):
        yield


def was_late(tx: Any, symbol: sympy.Symbol, *, alike: bool = False) -> None:
    """Let the trace begin anew before it ends, and know what a symbol stands for when it is made.

    Args:
        tx: Dynamo's translator of the code.
        symbol: stands for a number.
        alike: know all numbers that are made at that line, as those of the next layer.
    """
    wanted, made = _wanted(tx), _made(tx).get(symbol.name, "")
    if symbol.name not in wanted and len(wanted) < _MOST:  # names are counted, so they are the same in the next trace
        wanted |= {symbol.name, made} if alike and made else {symbol.name}
        tx.speculation_log.is_late = True


def begin_anew(tx: Any) -> None:
    """Let the trace begin anew at once, if it was late to know a number, or end, where the call is not as expected.

    Raises:
        BackendCompilerFailed: of `unexpected`: Dynamo hands it on as it is.
    """
    error = getattr(tx.speculation_log, "unexpected", None)
    if error is not None:
        raise BackendCompilerFailed(begin_anew, error, None)
    if getattr(tx.speculation_log, "is_late", False):
        tx.speculation_log.is_late = False
        raise UnspecializeRestartAnalysis(restart_reason="a number was found late")


def end_trace(tx: Any, error: Unexpected) -> NoReturn:
    """Let the trace end: no graph is made of this call. What Dynamo tries in its midst may swallow that for a while."""
    tx.speculation_log.unexpected = error
    begin_anew(tx)
    raise error


def _wanted(tx: Any) -> set[str]:
    """Symbols that traces of this frame were late to know, and lines that make such; Dynamo keeps its log over all."""
    wanted: set[str] = vars(tx.speculation_log).setdefault("late_symbols", set())
    return wanted


def _made(tx: Any) -> dict[str, str]:
    """Symbol -> the line of the model where the number was made for which it stands."""
    lines: dict[str, str] = vars(tx.output).setdefault("lines_of_symbols", {})
    return lines


def _compiled(self: OutputGraph, tx: Any, *args: Any, **kwargs: Any) -> Any:
    begin_anew(tx)
    return _compile_subgraph(self, tx, *args, **kwargs)
