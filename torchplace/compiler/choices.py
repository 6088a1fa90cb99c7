"""Branches on values whose ways only compute: a `torch.cond` of the graph, where Dynamo would break it.

`if not torch.isfinite(x).all(): x = x.clamp(-m, m)`, `y = f(x) if (x > 0).any() else g(x)`, and the like. Both ways are
traced, as functions of the locals that they read; what they leave in locals that are read later, or on the stack, are
their results. As in eager, one of them runs. What `torch.cond` does not take (other types of results, writing in place,
another way of going on) breaks the graph, as ever.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import torch
from torch._dynamo.bytecode_analysis import livevars_analysis
from torch._dynamo.bytecode_transformation import Instruction
from torch._dynamo.exc import RestartAnalysis, UnspecializeRestartAnalysis, Unsupported
from torch._dynamo.utils import counters, graph_break_reasons
from torch._dynamo.variables.base import VariableTracker
from torch._dynamo.variables.functions import FunctoolsPartialVariable, UserFunctionVariable
from torch._dynamo.variables.tensor import SymNodeVariable

from torchplace.compiler.draws import draws
from torchplace.compiler.foresight import may_expect
from torchplace.compiler.traced import traced_call
from torchplace.compiler.truths import as_tensor, truth_of
from torchplace.compiler.ways import Ways, code_of, read, stored, ways_of

_MOST = 40
"""Ops that both ways may have together."""


@dataclass
class Choices:
    """What a compiled function wants of choices.

    Attributes:
        wanted: whether branches are to be traced as choices.
        made: how many were.
    """

    wanted: bool = True
    made: int = 0


class _Local(threading.local):
    choices = Choices(wanted=False)


_local = _Local()


@contextmanager
def made_for(choices: Choices) -> Iterator[None]:
    """Within, choices are made as wanted."""
    before, _local.choices = _local.choices, choices
    try:
        yield
    finally:
        _local.choices = before


def choose(tx: Any, inst: Instruction, jumps_if: bool) -> bool:
    """Trace a branch on the value that is on top of the stack as a choice; False where it is none.

    Args:
        tx: Dynamo's translator of the code.
        inst: the jump.
        jumps_if: the truth of the value for which it is taken.
    """
    failed, place = _failed(tx) if may_expect() else None, (tx.f_code, inst.offset)
    ways = ways_of(tx, inst) if _local.choices.wanted and not (failed and place in failed) else None
    if ways is None:
        return False
    speculation = tx.speculate()
    if speculation.failed(tx):
        return False
    before = copy.deepcopy(counters), len(graph_break_reasons)
    try:
        _choose(tx, ways, jumps_if)
    except RestartAnalysis:
        raise
    except Exception as error:  # Dynamo's own, and what it has stumbled over: it has not been a break of the graph
        counters.clear()
        counters.update(before[0])
        del graph_break_reasons[before[1] :]
        if failed is not None:
            failed.add(place)
            raise UnspecializeRestartAnalysis(restart_reason="a branch cannot be traced as a choice") from error
        speculation.fail_and_restart_analysis(tx.error_on_graph_break)
    _local.choices.made += 1
    return True


def _failed(tx: Any) -> set[tuple[CodeType, int | None]]:
    """Branches of which a choice cannot be made: where they come again, as in the next layer, that is not tried again.

    To find that out, a trace begins anew. Dynamo keeps its log over all traces of a frame.
    """
    failed: set[tuple[CodeType, int | None]] = vars(tx.speculation_log).setdefault("no_choices", set())
    return failed


def _choose(tx: Any, ways: Ways, jumps_if: bool) -> None:
    returns = tx.instructions[ways.joined].opname == "RETURN_VALUE" and ways.stacked
    live = set() if returns else livevars_analysis(tx.instructions, tx.instructions[ways.joined])
    left = sorted((stored(ways.behind) | stored(ways.there)) & live)
    value = tx.pop()
    truth = traced_call(tx, as_tensor if isinstance(value, SymNodeVariable) else truth_of, [value], {})
    branches = [_branch(tx, way, left, ways.stacked) for way in (ways.there, ways.behind)]
    results = traced_call(tx, _cond, [truth, *(branches if jumps_if else branches[::-1])], {})
    _require_plain(tx, results.items)
    made = list(results.items)
    if ways.stacked:
        tx.push(made.pop(0))
    tx.symbolic_locals.update(zip(left, made, strict=True))
    tx.instruction_pointer = ways.joined


def _cond(truth: torch.Tensor, if_true: Any, if_false: Any) -> Any:
    return torch.cond(truth, if_true, if_false, ())


def _require_plain(tx: Any, results: Sequence[Any]) -> None:
    """Check that the ways are short, draw no random numbers, and that gradients reach the same tensors by both.

    A choice is placed as one op. Its backward runs a way again, which would draw others. And what a way does not use
    would get a gradient of zeros, by which an optimizer may change it: in eager it has none.
    """
    choice = results[0].as_proxy().node.args[0]
    graphs = [tx.output.nn_modules[way.target].graph for way in choice.args[1:3]]
    reached = [_used(graph, choice.args[3]) for graph in graphs]
    if torch.is_grad_enabled() and reached[0] != reached[1]:
        raise Unsupported("gradients would reach other tensors by one way than by the other")
    if torch.is_grad_enabled() and any(reached[0]) and len(results) > 1:
        raise Unsupported("several results with gradients, which the backward may find in the same memory")
    nodes = [node for graph in graphs for node in graph.nodes]
    calls = [node for node in nodes if node.op in ("call_function", "call_method")]
    if len(calls) > _MOST:
        raise Unsupported(f"its ways have {len(calls)} ops; as one op, it would run on one device")
    for node in calls:
        if draws(node):
            raise Unsupported(f"a way draws random numbers: {node.target}")


def _used(graph: Any, operands: Sequence[Any]) -> list[bool]:
    """Which operands get gradients through a way."""
    places = graph.find_nodes(op="placeholder")
    return [
        bool(place.users) and bool(getattr(operand.meta.get("example_value"), "requires_grad", False))
        for place, operand in zip(places, operands, strict=True)
    ]


def _branch(tx: Any, way: Sequence[Instruction], left: Sequence[str], stacked: int) -> Any:
    """A way as a function of nothing, in Dynamo's terms: the locals that it reads are bound."""
    needed = sorted(read(way) | (set(left) - stored(way)))
    if not all(name in tx.symbolic_locals for name in needed):
        raise Unsupported("a way leaves, or reads, a local that is not there")
    code = code_of(tx.f_code, way, needed, left, stacked)
    function = UserFunctionVariable(FunctionType(code, tx.f_globals, "way"))
    bound = {f"given_{i}": tx.symbolic_locals[name] for i, name in enumerate(needed)}
    return FunctoolsPartialVariable(VariableTracker.build(tx, _apart), [function], bound)


def _apart(way: Any, **given: Any) -> Any:
    """What a way gives; what it only hands on is a copy, for a choice must not give what it has been given."""
    results = []
    for result in way(*given.values()):
        handed_on = False
        for value in given.values():
            handed_on = handed_on or value is result
        results.append(result.clone() if handed_on and isinstance(result, torch.Tensor) else result)
    return tuple(results)
