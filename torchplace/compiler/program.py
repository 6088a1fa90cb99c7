"""The Program: a list of instructions for each device. What is simulated is what runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from torchplace.compiler.instructions import Instruction, parse_instruction
from torchplace.compiler.literals import STRING, quote, unquote
from torchplace.errors import ProgramError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Segment:
    """Ops of one device that run without interruption.

    Attributes:
        name: unique in the program.
        device: where it runs.
        ops: names of the ops, in order.
        peak: bytes that it needs at most while it runs, beyond what was there before; its results included.
    """

    name: str
    device: str
    ops: tuple[str, ...]
    peak: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """What the program knows of a value: its size, and whether it is a view.

    Attributes:
        nbytes: bytes that a transfer moves.
        base: the value whose memory it shares on the device that makes it (of an input: that it starts on); None if
            it has its own.
        span: bytes of memory that it takes where it has its own; None if they are `nbytes`. They are more where its
            strides leave gaps or an input is a part of something larger, and fewer where they repeat elements.
    """

    nbytes: int
    base: str | None = None
    span: int | None = None

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes where it has its own."""
        return self.nbytes if self.span is None else self.span


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an input of the program is when it starts.

    Attributes:
        device: the device.
        resident: it is state, and stays there between calls; else the program consumes it.
        lent: the caller holds it during the call, so that its memory is taken after the program has freed it, too.
        each: every micro-batch has its own; else there is one for all of them.
    """

    device: str
    resident: bool = False
    lent: bool = False
    each: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """One output of the program: a value and the device that it ends on, or a constant (then no device).

    Attributes:
        value: its name; None for a constant.
        device: where it ends.
        each: every micro-batch gives one; else there is one for all of them.
    """

    value: str | None
    device: str = ""
    each: bool = False


@dataclass(repr=False)
class Program:
    """What each device does, in order.

    Attributes:
        name: of the graph.
        devices: their names; the order is that of the topology.
        values: every value that crosses an instruction, by name.
        inputs: where each input starts.
        background: device -> what -> bytes that stand there all the time, and that no instruction touches: state that
            only other programs of the step use, what the caller got from them, the state of an optimizer.
        outputs: where each output ends, in the graph's order.
        microbatches: how many pass through it.
        segments: by name.
        instructions: device -> its list.
    """

    name: str
    devices: tuple[str, ...]
    values: dict[str, Slot] = field(default_factory=dict)
    inputs: dict[str, Entry] = field(default_factory=dict)
    background: dict[str, dict[str, int]] = field(default_factory=dict)
    outputs: tuple[Exit, ...] = ()
    microbatches: int = 1
    segments: dict[str, Segment] = field(default_factory=dict)
    instructions: dict[str, list[Instruction]] = field(default_factory=dict)

    def instances(self, end: Entry | Exit) -> range:
        """The micro-batches of which an input or output is there: all, or the first, which then stands for all."""
        return range(self.microbatches if end.each else 1)

    def __iter__(self) -> Iterator[tuple[str, Instruction]]:
        """Every (device, instruction), device by device."""
        return ((d, i) for d, instructions in self.instructions.items() for i in instructions)

    def __repr__(self) -> str:
        count = sum(len(i) for i in self.instructions.values())
        return f"<Program {self.name!r}: {count} instructions on {len(self.devices)} device(s)>"

    def __str__(self) -> str:
        lines = [f"program {quote(self.name)} on {', '.join(self.devices)}"]
        lines += [f"microbatches {self.microbatches}"] * (self.microbatches != 1)
        lines += [f"value %{n}: {s.nbytes} bytes{_in(s.span)}{_of(s.base)}" for n, s in self.values.items()]
        lines += [
            f"input %{n} on {e.device}{' resident' * e.resident}{' lent' * e.lent}{' each' * e.each}"
            for n, e in self.inputs.items()
        ]
        for device, standing in self.background.items():
            lines += [f"background {nbytes} bytes of {what} on {device}" for what, nbytes in standing.items()]
        for s in self.segments.values():
            lines.append(f"segment {s.name} on {s.device} peak {s.peak}: {' '.join(s.ops)}")
        lines += [
            f"output %{e.value} on {e.device}{' each' * e.each}" if e.value else "output none" for e in self.outputs
        ]
        for device, instructions in self.instructions.items():
            lines += [f"{device}:", *(f"  {i}" for i in instructions)]
        return "\n".join(lines)

    @classmethod
    def parse(cls, text: str) -> Program:
        """Read a program as `str()` prints it.

        Raises:
            ProgramError: says which line, and what was expected.
        """
        first, *lines = text.strip().splitlines() or [""]
        header = re.fullmatch(rf"program ({STRING}) on (.+)", first)
        if header is None:
            raise ProgramError(
                f"cannot read the program's first line {first!r}; expected 'program \"name\" on devices'"
            )
        program = cls(unquote(header[1]), tuple(d.strip() for d in header[2].split(",")))
        device = ""
        for number, line in enumerate(lines, start=2):
            try:
                device = program._parse_line(line, device)
            except ProgramError as error:
                raise ProgramError(f"line {number} of the program, {line!r}: {error}") from error
        return program

    def _parse_line(self, line: str, device: str) -> str:
        if line.startswith("  "):
            if not device:
                raise ProgramError("an instruction stands before the first device")
            self.instructions[device].append(parse_instruction(line))
        elif m := re.fullmatch(r"value %(\S+): (\d+) bytes(?: in (\d+))?(?: of %(\S+))?", line):
            _add(self.values, "value", m[1], Slot(int(m[2]), m[4], None if m[3] is None else int(m[3])))
        elif m := re.fullmatch(r"input %(\S+) on (\S+?)( resident)?( lent)?( each)?", line):
            _add(self.inputs, "input", m[1], Entry(m[2], bool(m[3]), bool(m[4]), bool(m[5])))
        elif m := re.fullmatch(r"background (\d+) bytes of (\w+) on (\S+)", line):
            _add(self.background.setdefault(m[3], {}), "background", m[2], int(m[1]))
        elif m := re.fullmatch(r"segment (\S+) on (\S+) peak (\d+): (.*)", line):
            _add(self.segments, "segment", m[1], Segment(m[1], m[2], tuple(m[4].split()), int(m[3])))
        elif m := re.fullmatch(r"output (?:none|%(\S+) on (\S+?)( each)?)", line):
            self.outputs = (*self.outputs, Exit(m[1], m[2] or "", bool(m[3])))
        elif m := re.fullmatch(r"microbatches (\d+)", line):
            self.microbatches = int(m[1])
        elif m := re.fullmatch(r"(\S+):", line):
            _add(self.instructions, "device", m[1], [])
            return m[1]
        else:
            raise ProgramError(
                "expected microbatches, a value, input, background, segment, output, device or (indented) instruction"
            )
        return device


def _add(table: dict[str, _T], what: str, name: str, entry: _T) -> None:
    if name in table:
        raise ProgramError(f"{what} {name!r} is listed twice")
    table[name] = entry


def _in(span: int | None) -> str:
    return "" if span is None else f" in {span}"


def _of(base: str | None) -> str:
    return "" if base is None else f" of %{base}"
