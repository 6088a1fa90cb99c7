"""Runs of ops as TorchScript functions, which run without Python's lock.

The threads of several devices compute in one process, and each op that Python calls has to take Python's lock again
when it has ended. On two devices that took a fifth of the time of a GPT of width 192. TorchScript's interpreter calls
the same kernels in the same order, so results are the same to the last bit; none of its optimizations is used.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from torchplace.compiler.dynamo import dispatch_modes_active
from torchplace.compiler.graph import Graph, Here, Op, Value
from torchplace.compiler.instructions import Run
from torchplace.compiler.targets import called_as, resolve_target
from torchplace.compiler.types import TensorType
from torchplace.runtime.kernels import READS_MEMORY, Kernel, Piece, is_multiple, make_kernel, names
from torchplace.runtime.op_error import op_error
from torchplace.runtime.portable import portable
from torchplace.runtime.torchscript import boxed, compiled, overloads, unoptimized

_log = logging.getLogger(__name__)

LEAST = 6
"""Ops in a row for which a function is made: it takes about a millisecond for each of them to compile."""
_LINE = re.compile(r'File "<string>", line (\d+)')
_TYPES: dict[str, type[Exception]] = {"out of memory": torch.OutOfMemoryError, "index out of range": IndexError}
"""What errors say that are of a type of their own."""
_NUMBER_INSTEAD = {"Tensor": "Scalar"}
"""Overload that the graph has -> that which TorchScript takes where a number stands for a tensor; it does the same."""


def make_scripted(
    graph: Graph, ops: Sequence[Op], run: Run, device: torch.device, where: str, keys: Mapping[str, str]
) -> Kernel:
    """Compile the ops of a segment, as far as TorchScript has them; arguments are those of `kernels.make_kernel`.

    Ops of Python, of other libraries, with graphs of their own, that draw random numbers or whose values are no tensors
    are called by Python, and so are all where a dispatch mode of the caller's has to see them.
    """
    plain = functools.cache(lambda: make_kernel(graph, ops, run, device, where, keys))
    rows = in_rows(ops, device)
    if not any(isinstance(row, list) for row in rows):
        return plain()
    try:
        quick = make_kernel(graph, pieces(rows, run, device, where), run, device, where, keys)
    except Exception as error:  # torch.jit is deprecated; without it things work as well, if not as fast
        _log.warning("segment %s of %r on %s is run by Python: %s", run.segment, graph.name, where, error)
        return plain()

    def segment(args: list[Any], seed: int) -> Sequence[Any]:
        return plain()(args, seed) if dispatch_modes_active() else quick(args, seed)

    return segment


def in_rows(ops: Sequence[Op], device: torch.device) -> list[Op | list[Op]]:
    """The ops in order, those that go into a function together as a list."""
    rows: list[Op | list[Op]] = []
    for known, group in itertools.groupby(ops, lambda op: _is_known(op, device)):
        together = list(group)
        rows += [together] if known and len(together) >= LEAST else together
    return rows


def pieces(rows: Sequence[Op | list[Op]], run: Run, device: torch.device, where: str) -> list[Op | Piece]:
    """Functions in place of lists (`in_rows`)."""
    found: list[Op | Piece] = []
    wanted = set(run.outputs)
    for row in reversed(rows):
        item: Op | Piece = Scripted(row, wanted, device, where) if isinstance(row, list) else row
        found.append(item)
        wanted.update(names(item.inputs))
    return found[::-1]


def _is_known(op: Op, device: torch.device) -> bool:
    """Whether TorchScript has an op, and takes the same overload of it."""
    if op.random or op.mutates or op.target in READS_MEMORY:
        return False
    if not op.target.startswith("aten.") or portable(op.target, device) is not None:
        return False
    if not all(isinstance(v.type, TensorType) for v in (*op.inputs, *op.outputs)):
        return False
    try:
        return _takes(_source([op], names(op.inputs), names(op.outputs), device), called_as(op.target))
    except _UnknownError:
        return False


@functools.lru_cache(maxsize=4096)
def _takes(source: str, target: str) -> bool:
    """Whether a function of one op compiles, and calls the overload that it is to."""
    try:
        function = compiled(source)
    except RuntimeError:
        return False
    _, name, overload = target.split(".")
    called = overloads(function, name)
    return len(called) == 1 and called[0] in {overload, _NUMBER_INSTEAD.get(overload, overload)}


class _UnknownError(Exception):
    """An argument for which TorchScript has no literal."""


def _line(op: Op, device: torch.device, name: Callable[[str], str]) -> str:
    """One op in TorchScript."""
    target = called_as(op.target)
    schema = resolve_target(target)._schema  # type: ignore[attr-defined]
    kinds = {a.name: str(a.type) for a in schema.arguments}
    parts = [_literal(a, kind, device, name) for a, kind in zip(op.args, kinds.values(), strict=False)]
    parts += [f"{key}={_literal(a, kinds[key], device, name)}" for key, a in op.kwargs.items()]
    results = "".join(f"{name(v.name)}, " for v in op.outputs)
    left = results if is_multiple(op) else results.rstrip(", ")
    return f"{left} = torch.ops.aten.{target.split('.')[1]}({', '.join(parts)})"


def _literal(argument: Any, kind: str, device: torch.device, name: Callable[[str], str]) -> str:
    """An argument, as a literal of the type that an operator's schema asks for.

    Raises:
        _UnknownError: there is none.
    """
    if isinstance(argument, Value):
        return name(argument.name)
    if isinstance(argument, (list, tuple)):
        inner = re.sub(r"^Optional\[(.*)\]$", r"\1", kind)
        if not argument:
            return f"torch.jit.annotate({inner}, [])"
        item = re.sub(r"^List\[(.*)\]$", r"\1", inner)
        return f"[{', '.join(_literal(a, item, device, name) for a in argument)}]"
    if isinstance(argument, (Here, torch.device)):
        return f'torch.device("{device if isinstance(argument, Here) else argument}")'
    if isinstance(argument, (torch.dtype, torch.layout, torch.memory_format)) or argument is None:
        return str(argument)
    if isinstance(argument, (bool, str)):
        return repr(argument)
    if isinstance(argument, int):
        return repr(float(argument)) if "float" in kind else repr(argument)
    if isinstance(argument, float):
        return repr(argument) if argument - argument == 0 else f'float("{argument}")'
    raise _UnknownError(repr(argument))


def _source(ops: Sequence[Op], inputs: Sequence[str], outputs: Sequence[str], device: torch.device) -> str:
    """A function that takes its inputs out of a list, so that they are freed after their last use.

    Values are numbered, so that the same ops of other names come to the same text. The first op stands in the line
    `_first_line(inputs)`.

    Raises:
        _UnknownError: an argument of an op has no literal.
    """
    numbers: dict[str, str] = {}

    def name(value: str) -> str:
        return numbers.setdefault(value, f"v{len(numbers)}")

    taken = [f"{name(value)} = args.pop()" for value in inputs][::-1]
    lines = [*taken, *(_line(op, device, name) for op in ops), f"return [{', '.join(map(name, outputs))}]"]
    return "\n    ".join(["def segment(args: List[Tensor]):", *lines]) + "\n"


def _first_line(inputs: Sequence[str]) -> int:
    return len(inputs) + 2


class Scripted:
    """Ops in a row, as one function.

    Attributes:
        inputs: names of the values that it takes.
        outputs: names of those of its values that are used outside of it.
        box: makes a list of TorchScript's, so that Python holds none of the values while it runs.
    """

    def __init__(self, ops: Sequence[Op], wanted: set[str], device: torch.device, where: str) -> None:
        """Compile it.

        Args:
            ops: in order.
            wanted: names of values that are used behind it.
            device: on which it runs.
            where: the device's name.
        """
        made = {v.name for op in ops for v in op.outputs}
        self.ops, self.where = ops, where
        self.box: Callable[[list[Any]], Any] = boxed
        self.inputs: Sequence[str] = list(dict.fromkeys(v.name for op in ops for v in op.inputs if v.name not in made))
        self.outputs: Sequence[str] = [v.name for op in ops for v in op.outputs if v.name in wanted]
        self.function = compiled(_source(ops, self.inputs, self.outputs, device))

    def __call__(self, args: Any) -> list[Any]:
        """Run it.

        Args:
            args: its inputs, boxed; is emptied.

        Raises:
            ExecutionError: an op has failed.
        """
        try:
            with unoptimized():
                return self.function(args)  # type: ignore[no-any-return]
        except Exception as error:
            op, cause = self._failed(error)
            raise op_error(op, self.where, cause) from cause

    def _failed(self, error: Exception) -> tuple[Op | None, Exception]:
        """The op that has failed, and why, without the interpreter's account of where it was: there, types are lost."""
        text = str(error)
        found = _LINE.findall(text)
        op = self.ops[int(found[-1]) - _first_line(self.inputs)] if found else None
        text = text.rpartition("\nRuntimeError: ")[2].strip()
        return op, next((kind for part, kind in _TYPES.items() if part in text), RuntimeError)(text)
