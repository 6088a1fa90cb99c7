"""Branches on values whose ways only compute: a `torch.cond` of the graph, where Dynamo would break it.

`if not torch.isfinite(x).all(): x = x.clamp(-m, m)`, `y = f(x) if (x > 0).any() else g(x)`, and the like. Both ways are
traced, as functions of the locals that they read; what they leave in locals that are read later, or on the stack, are
their results. As in eager, one of them runs. What `torch.cond` does not take (other types of results, writing in place,
another way of going on) breaks the graph, as ever.
"""

from __future__ import annotations

import copy
import dis
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import torch
from torch._dynamo.bytecode_analysis import livevars_analysis
from torch._dynamo.bytecode_transformation import Instruction, create_instruction, transform_code_object
from torch._dynamo.exc import RestartAnalysis, Unsupported
from torch._dynamo.variables.base import VariableTracker
from torch._dynamo.variables.functions import FunctoolsPartialVariable, UserFunctionVariable
from torch._dynamo.variables.tensor import SymNodeVariable

from torchplace.compiler.substitutes import traced_call
from torchplace.compiler.truths import as_tensor, truth_of

_LONGEST = 400
"""Instructions that a way may have."""

_MOST = 40
"""Ops that both ways may have together."""

_PLAIN = (
    *("LOAD_FAST", "LOAD_CONST", "LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD", "LOAD_BUILD", "STORE_FAST", "PUSH_NULL"),
    *("CALL", "PRECALL", "KW_NAMES", "BINARY_", "UNARY_", "COMPARE_OP", "IS_OP", "CONTAINS_OP", "BUILD_", "FORMAT_"),
    *("LIST_", "DICT_", "SET_", "SWAP", "COPY", "POP_TOP", "NOP", "TO_BOOL", "CONVERT_VALUE", "UNPACK_SEQUENCE"),
)
"""Begins of the names of instructions that only compute."""
_CALL = "PRECALL" if "PRECALL" in dis.opmap else "CALL"
_NOT_PLAIN = ("COPY_FREE_VARS", "CALL_INTRINSIC")
_SORTS = dis.COMPILER_FLAG_NAMES
_VARIABLE_ARGUMENTS = sum(flag for flag, name in _SORTS.items() if name in ("VARARGS", "VARKEYWORDS"))
_RESUMES = sum(flag for flag, name in _SORTS.items() if "GENERATOR" in name or "COROUTINE" in name)


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


@dataclass(frozen=True)
class _Ways:
    """The two ways of a branch.

    Attributes:
        behind: instructions where the jump is not taken.
        there: those where it is.
        joined: number of the instruction at which both have come to the same.
        stacked: how many values each leaves on the stack, 0 or 1.
    """

    behind: Sequence[Instruction]
    there: Sequence[Instruction]
    joined: int
    stacked: int


def choose(tx: Any, inst: Instruction, jumps_if: bool) -> bool:
    """Trace a branch on the value that is on top of the stack as a choice; False where it is none.

    Args:
        tx: Dynamo's translator of the code.
        inst: the jump.
        jumps_if: the truth of the value for which it is taken.
    """
    ways = _ways(tx, inst) if _local.choices.wanted else None
    if ways is None:
        return False
    speculation = tx.speculate()
    if speculation.failed(tx):
        return False
    try:
        _choose(tx, ways, jumps_if)
    except RestartAnalysis:
        raise
    except Exception as error:  # Dynamo's own, and what it has stumbled over
        if isinstance(error, Unsupported):
            error.remove_from_stats()
        speculation.fail_and_restart_analysis(tx.error_on_graph_break)
    _local.choices.made += 1
    return True


def _ways(tx: Any, inst: Instruction) -> _Ways | None:
    """The ways behind a jump, if both only compute and come to the same place."""
    code, begin, target = tx.instructions, tx.instruction_pointer, tx.indexof[inst.target]
    if target <= begin or tx.f_code.co_flags & _RESUMES:
        return None
    behind, there, joined = code[begin:target], [], target
    last = behind[-1].opname
    if last == "JUMP_FORWARD":
        joined = tx.indexof[behind[-1].target]
        behind, there = behind[:-1], code[target:joined]
    elif last == "RETURN_VALUE":
        joined = next((i for i in range(target, len(code)) if code[i].opname == "RETURN_VALUE"), len(code))
        behind, there = behind[:-1], code[target:joined]
    effects = [_effect(way) for way in (behind, there)]
    if joined >= len(code) or None in effects or effects[0] != effects[1] or effects[0] not in (0, 1):
        return None
    return _Ways(behind, there, joined, effects[0])


def _effect(way: Sequence[Instruction]) -> int | None:
    """By how much a way makes the stack higher; None if it does not only compute, on what it has put there itself."""
    height = 0
    if len(way) > _LONGEST:
        return None
    for inst in way:
        if not inst.opname.startswith(_PLAIN) or inst.opname.startswith(_NOT_PLAIN):
            return None
        if height < _depth(inst):
            return None
        height += dis.stack_effect(inst.opcode, inst.arg if inst.opcode >= dis.HAVE_ARGUMENT else None)
        if height < 0:
            return None
    return height


def _depth(inst: Instruction) -> int:
    """How many values an instruction finds on the stack at least, where that is more than it takes off.

    The end of a `with`, where a way returns, looks for what was there before.
    """
    count = inst.arg or 0
    if inst.opname in ("SWAP", "COPY"):
        return count
    return count + 2 if inst.opname == _CALL else 0


def _choose(tx: Any, ways: _Ways, jumps_if: bool) -> None:
    returns = tx.instructions[ways.joined].opname == "RETURN_VALUE" and ways.stacked
    live = set() if returns else livevars_analysis(tx.instructions, tx.instructions[ways.joined])
    left = sorted((_stored(ways.behind) | _stored(ways.there)) & live)
    value = tx.pop()
    truth = traced_call(tx, as_tensor if isinstance(value, SymNodeVariable) else truth_of, [value], {})
    branches = [_branch(tx, way, left, ways.stacked) for way in (ways.there, ways.behind)]
    results = traced_call(tx, _cond, [truth, *(branches if jumps_if else branches[::-1])], {})
    _require_plain(tx, results.items)
    stored = list(results.items)
    if ways.stacked:
        tx.push(stored.pop(0))
    tx.symbolic_locals.update(zip(left, stored, strict=True))
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
        if _draws(node):
            raise Unsupported(f"a way draws random numbers: {node.target}")


def _used(graph: Any, operands: Sequence[Any]) -> list[bool]:
    """Which operands get gradients through a way."""
    places = graph.find_nodes(op="placeholder")
    return [
        bool(place.users) and bool(getattr(operand.meta.get("example_value"), "requires_grad", False))
        for place, operand in zip(places, operands, strict=True)
    ]


def _draws(node: Any) -> bool:
    """Whether a node of Dynamo's graph may draw random numbers."""
    name = getattr(node.target, "__name__", str(node.target)).lower()
    if "dropout" in name:
        given = [*node.args, *node.kwargs.values()]
        return not any(value is False or (isinstance(value, float) and value == 0.0) for value in given)
    if name == "scaled_dot_product_attention":
        return bool(node.kwargs.get("dropout_p", node.args[4] if len(node.args) > 4 else 0.0))
    return any(part in name for part in _DRAWS) or isinstance(node.target, torch._ops.HigherOrderOperator)


_DRAWS = ("rand", "bernoulli", "multinomial", "normal_", "uniform_", "exponential_", "poisson", "rrelu", "gumbel")
"""Parts of the names of functions that draw."""


def _stored(way: Sequence[Instruction]) -> set[str]:
    return {inst.argval for inst in way if inst.opname.startswith("STORE_FAST")}


def _read(way: Sequence[Instruction]) -> set[str]:
    """The locals that a way reads before it writes them."""
    read: set[str] = set()
    stored: set[str] = set()
    for inst in way:
        if inst.opname.startswith("STORE_FAST"):
            stored.add(inst.argval)
        elif inst.opname.startswith("LOAD_FAST") and inst.argval not in stored:
            read.add(inst.argval)
    return read


def _branch(tx: Any, way: Sequence[Instruction], left: Sequence[str], stacked: int) -> Any:
    """A way as a function of nothing, in Dynamo's terms: the locals that it reads are bound."""
    needed = sorted(_read(way) | (set(left) - _stored(way)))
    if not all(name in tx.symbolic_locals for name in needed):
        raise Unsupported("a way leaves, or reads, a local that is not there")
    code = _code(tx.f_code, way, needed, left, stacked)
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


def _code(
    code: CodeType, way: Sequence[Instruction], given: Sequence[str], left: Sequence[str], stacked: int
) -> CodeType:
    """The code of a function of the locals that a way reads; it returns what that leaves on the stack and in locals."""

    def cut(instructions: list[Instruction], options: dict[str, Any]) -> None:
        others = [name for name in options["co_varnames"] if name not in given]
        options.update(co_argcount=len(given), co_posonlyargcount=0, co_kwonlyargcount=0)
        options.update(co_varnames=(*given, *others), co_cellvars=(), co_freevars=())
        options["co_flags"] &= ~_VARIABLE_ARGUMENTS
        body = [copy.copy(inst) for inst in way]
        for inst in body:
            inst.exn_tab_entry = None
        ends = [create_instruction("LOAD_FAST", argval=name) for name in left]
        ends += [create_instruction("BUILD_TUPLE", arg=len(left) + stacked), create_instruction("RETURN_VALUE")]
        instructions[:] = [create_instruction("RESUME", arg=0), *body, *ends]

    return transform_code_object(code, cut)[0]
