"""The two ways of a branch, in bytecode, where both only compute and come to the same place."""

from __future__ import annotations

import copy
import dis
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from torch._dynamo.bytecode_transformation import Instruction, create_instruction, transform_code_object

_LONGEST = 400
"""Instructions that a way may have."""

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


@dataclass(frozen=True)
class Ways:
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


def ways_of(tx: Any, inst: Instruction) -> Ways | None:
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
    if not target <= joined < len(code) or None in effects or effects[0] != effects[1] or effects[0] not in (0, 1):
        return None
    return Ways(behind, there, joined, effects[0])


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
        height += dis.stack_effect(inst.opcode, (inst.arg or 0) if inst.opcode >= dis.HAVE_ARGUMENT else None)
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


def stored(way: Sequence[Instruction]) -> set[str]:
    """The locals that a way writes."""
    return {inst.argval for inst in way if inst.opname.startswith("STORE_FAST")}


def read(way: Sequence[Instruction]) -> set[str]:
    """The locals that a way reads before it writes them."""
    found: set[str] = set()
    own: set[str] = set()
    for inst in way:
        if inst.opname.startswith("STORE_FAST"):
            own.add(inst.argval)
        elif inst.opname.startswith("LOAD_FAST") and inst.argval not in own:
            found.add(inst.argval)
    return found


def code_of(
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
