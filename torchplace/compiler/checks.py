"""Checks of values: `if (labels >= n).any(): raise ...` as an op, where Dynamo would break the graph.

Dynamo does so for some forms of `assert` by itself. What is raised names the op and the line, and is of the kind that
the model would raise, too, so that who expects that catches it.
"""

from __future__ import annotations

import builtins
import dis
import linecache
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch._dynamo import symbolic_convert
from torch._dynamo.bytecode_transformation import Instruction
from torch._dynamo.variables import ConstantVariable
from torch._dynamo.variables.tensor import SymNodeVariable
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from torchplace.compiler.choices import choose
from torchplace.compiler.foreseen import number_in, truth_of_branch
from torchplace.compiler.foresight import nothing_expected
from torchplace.compiler.speculation import expected_truth
from torchplace.compiler.traced import traced_call
from torchplace.compiler.truths import as_tensor

Jump = Callable[[Any, Instruction], None]

_LONGEST = 100
"""Instructions that a branch that only raises may have."""
_LEAVES = ("JUMP", "RETURN", "YIELD", "STORE", "DELETE", "FOR_ITER", "SEND", "IMPORT")
"""Begins of the names of those that it has not."""


@contextmanager
def checks_in_graphs() -> Iterator[None]:
    """Within, Dynamo traces branches on values of which one only raises as checks."""
    with ExitStack() as stack:
        for translator in _translators(symbolic_convert.InstructionTranslatorBase):
            table = [_checking(dis.opname[i], traced) for i, traced in enumerate(translator.dispatch_table)]
            stack.enter_context(mock.patch.object(translator, "dispatch_table", table))
        yield


def _translators(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for other in kind.__subclasses__():
        yield from _translators(other)


def _checking(name: str, original: Jump | None) -> Jump | None:
    """What traces an instruction of a name, checks included; as it is, where that is no jump on a truth."""
    if original is None or not (name.startswith("POP_JUMP") and name.endswith(("IF_TRUE", "IF_FALSE"))):
        return original
    jumps_if = name.endswith("IF_TRUE")

    def jump(tx: Any, inst: Instruction) -> None:
        value = tx.stack[-1]
        if not _hangs_on_values(value):
            return original(tx, inst)
        truth = _checked(tx, inst, value, jumps_if)
        if truth is None:
            with nothing_expected():
                truth = truth_of_branch(tx, value)
        if truth is None and choose(tx, inst, jumps_if):
            return None
        if truth is None:
            truth = expected_truth(tx, value) if value.is_tensor() else number_in(value, bool)
        if truth is None:
            return original(tx, inst)
        tx.pop()
        if truth == jumps_if:
            tx.jump(inst)
        return None

    return jump


def _checked(tx: Any, inst: Instruction, value: Any, jumps_if: bool) -> bool | None:
    """Which way a branch goes that only raises otherwise, and a check of that in the graph; None for other branches."""
    behind, there = _raises(tx, tx.instructions[tx.instruction_pointer]), _raises(tx, inst.target)
    if (behind is None) == (there is None) or _is_caught(tx):
        return None
    wanted = jumps_if if behind else not jumps_if
    _check(tx, value, wanted, behind or there or "")
    return wanted


def _hangs_on_values(value: Any) -> bool:
    if isinstance(value, SymNodeVariable):
        return bool(free_unbacked_symbols(value.sym_num))
    return bool(value.is_tensor())


def _raises(tx: Any, first: Instruction | None) -> str | None:
    """What is raised, and where, by a branch that does nothing but raise one of Python's own exceptions; else None."""
    begin = tx.indexof[first] if first in tx.indexof else len(tx.instructions)
    branch = tx.instructions[begin : begin + _LONGEST]
    for i, inst in enumerate(branch):
        if inst.opname == "RAISE_VARARGS":
            kind = _kind(branch[:i], tx.f_globals)
            return kind and f"{kind}: {_said(tx.f_code.co_filename, branch, inst)}"
        if inst.opname.startswith(_LEAVES) or "JUMP" in inst.opname:
            return None
    return None


def _kind(branch: Sequence[Instruction], names: Mapping[str, Any]) -> str | None:
    """The name of the exception that a branch makes, if it is one of Python's own."""
    first = next((inst for inst in branch if inst.opname.startswith("LOAD_")), None)
    if first is None:
        return None
    name = "AssertionError" if first.opname in _ASSERTION else first.argval
    known = isinstance(name, str) and name not in names and raised(name) is not None
    return name if known else None


_ASSERTION = "LOAD_ASSERTION_ERROR", "LOAD_COMMON_CONSTANT"


def raised(message: str) -> type[Exception] | None:
    """What a model would raise whose check has failed with a message; None where that is not known."""
    found = getattr(builtins, message.partition(": ")[0], None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _said(file: str, branch: Sequence[Instruction], raising: Instruction) -> str:
    """The message of an `assert`, where it is a constant; else the line that raises."""
    if branch[0].opname in _ASSERTION and isinstance(branch[1].argval, str):
        return branch[1].argval
    line = raising.positions.lineno if raising.positions else raising.starts_line
    return linecache.getline(file, line or 0).strip() or "a check of values"


def _is_caught(tx: Any) -> bool:
    """Whether something in the graph would catch what is raised here."""
    while tx is not None:
        entry = tx.current_instruction.exn_tab_entry
        while entry is not None:
            at = tx.indexof[entry.target]
            names = [inst.opname for inst in tx.instructions[at : at + 3]]
            if "WITH_EXCEPT_START" not in names and "RERAISE" not in names:  # neither a `with` nor its end
                return True
            entry = entry.target.exn_tab_entry
        tx = tx.parent
    return False


def _check(tx: Any, value: Any, wanted: bool, message: str) -> None:
    """Let the graph fail unless a value is true, or is not."""
    if isinstance(value, SymNodeVariable):
        value = traced_call(tx, as_tensor, [value], {})
    if not wanted:
        value = value.call_method(tx, "logical_not", [], {})
    args = value.as_proxy(), ConstantVariable.create(message).as_proxy()
    tx.output.create_proxy("call_function", torch._assert_async, args, {})
