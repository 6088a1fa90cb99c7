"""The instruction set: all that a device can be told to do. Each prints as one line and parses back from it.

A micro-batch other than 0 is printed behind the instruction, as `@3`. `%name` is a value of the graph; a value of
another micro-batch is another tensor of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torchplace.errors import ProgramError


@dataclass(frozen=True, slots=True)
class Run:
    """Run a segment: a straight piece of the graph."""

    segment: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    microbatch: int = 0

    def __str__(self) -> str:
        return f"run {self.segment} ({_names(self.inputs)}) -> {_names(self.outputs)}".rstrip() + _at(self.microbatch)


@dataclass(frozen=True, slots=True)
class Send:
    """Start moving a value to another device; in order for each (source, destination), and nobody waits."""

    value: str
    to: str
    microbatch: int = 0

    def __str__(self) -> str:
        return f"send %{self.value} to {self.to}{_at(self.microbatch)}"


@dataclass(frozen=True, slots=True)
class Recv:
    """Take a value that another device sends; the first instruction that uses it waits for it."""

    value: str
    source: str
    microbatch: int = 0

    def __str__(self) -> str:
        return f"recv %{self.value} from {self.source}{_at(self.microbatch)}"


@dataclass(frozen=True, slots=True)
class Free:
    """Drop a value: its memory can be used again."""

    value: str
    microbatch: int = 0

    def __str__(self) -> str:
        return f"free %{self.value}{_at(self.microbatch)}"


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Add a micro-batch's gradient to the sum over micro-batches, which the first one starts."""

    value: str
    into: str
    microbatch: int = 0

    def __str__(self) -> str:
        return f"accumulate %{self.value} into %{self.into}{_at(self.microbatch)}"


@dataclass(frozen=True, slots=True)
class Update:
    """Write a value into a parameter or buffer (or a tensor of the caller's), in place."""

    state: str
    value: str
    microbatch: int = 0

    def __str__(self) -> str:
        return f"update %{self.state} with %{self.value}{_at(self.microbatch)}"


@dataclass(frozen=True, slots=True)
class Reduce:
    """Combine a value over devices that each hold one, in place (a collective: all of them run it)."""

    value: str
    operator: str
    group: tuple[str, ...]
    microbatch: int = 0

    def __str__(self) -> str:
        return f"reduce %{self.value} by {self.operator} over {', '.join(self.group)}{_at(self.microbatch)}"


Instruction = Run | Send | Recv | Free | Accumulate | Update | Reduce


def brief(instruction: Instruction) -> str:
    """An instruction in a few words: a run without what it takes and gives."""
    if isinstance(instruction, Run):
        return f"run {instruction.segment}{_at(instruction.microbatch)}"
    return str(instruction)


def _names(values: tuple[str, ...]) -> str:
    return ", ".join(f"%{v}" for v in values)


def _at(microbatch: int) -> str:
    return f" @{microbatch}" if microbatch else ""


def _split(names: str) -> tuple[str, ...]:
    return tuple(part.removeprefix("%") for part in names.split(", ") if part)


_NAMES = r"(|%[^\s,()]+(?:, %[^\s,()]+)*)"
_FORMS: list[tuple[re.Pattern[str], Callable[[re.Match[str], int], Instruction]]] = [
    (re.compile(rf"run (\S+) \({_NAMES}\) -> ?{_NAMES}"), lambda m, k: Run(m[1], _split(m[2]), _split(m[3]), k)),
    (re.compile(r"send %(\S+) to (\S+)"), lambda m, k: Send(m[1], m[2], k)),
    (re.compile(r"recv %(\S+) from (\S+)"), lambda m, k: Recv(m[1], m[2], k)),
    (re.compile(r"free %(\S+)"), lambda m, k: Free(m[1], k)),
    (re.compile(r"accumulate %(\S+) into %(\S+)"), lambda m, k: Accumulate(m[1], m[2], k)),
    (re.compile(r"update %(\S+) with %(\S+)"), lambda m, k: Update(m[1], m[2], k)),
    (re.compile(r"reduce %(\S+) by (\w+) over (\S+(?:, \S+)*)"), lambda m, k: Reduce(m[1], m[2], _split(m[3]), k)),
]


def parse_instruction(line: str) -> Instruction:
    """Read an instruction as `str()` prints it.

    Raises:
        ProgramError: the line is no instruction.
    """
    whole = line.strip()
    text, at, microbatch = whole.rpartition(" @")
    body, k = (text, int(microbatch)) if at and microbatch.isdecimal() else (whole, 0)
    for pattern, make in _FORMS:
        match = pattern.fullmatch(body)
        if match and str(made := make(match, k)) == whole:  # what the pattern skipped would be lost in silence
            return made
    raise ProgramError(
        f"cannot read the instruction {whole!r}; expected run, send, recv, free, accumulate, update or reduce"
    )
