"""Segments as Python functions: straight-line code that calls the ops and drops every value after its last use."""

from __future__ import annotations

import functools
import hashlib
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from torchplace.compiler.dynamo import direct_call
from torchplace.compiler.graph import Callee, Graph, Here, Op, Subgraph, Value
from torchplace.compiler.instructions import Run
from torchplace.compiler.targets import called_as, resolve_target
from torchplace.compiler.types import TensorType, Type
from torchplace.errors import ExecutionError
from torchplace.runtime.accelerator import seeded
from torchplace.runtime.op_error import op_error
from torchplace.runtime.portable import portable
from torchplace.runtime.transport import laid_out

Kernel = Callable[[list[Any], int], Sequence[Any]]
"""Takes a segment's inputs, in a list that it empties, and the seed of this step and micro-batch."""

Maker = Callable[[Graph, Sequence[Op], Run, torch.device, str, Mapping[str, str]], Kernel]
"""Makes what runs a segment (`make_kernel`)."""


class Piece(Protocol):
    """Several ops that are called as one.

    Attributes:
        inputs: names of the values that it takes.
        outputs: names of those that it returns: of all that it makes, what is used behind it.
        box: makes a list of values, out of which it takes them.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    box: Callable[[list[Any]], Any]

    def __call__(self, args: Any) -> Sequence[Any]:
        """Run them; what fails is an `ExecutionError` that names the op."""


_random_lock = threading.Lock()


def op_seed(seed: int, key: str) -> int:
    """Seed of one op in one step: the same wherever, and in whatever order, it runs."""
    digest = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def draw(device: torch.device, seed: int, key: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call an op that draws random numbers with its own seed; the caller's generator stays as it is.

    Default generators belong to the process, so that only one thread at a time may borrow one.
    """
    own = op_seed(seed, key)
    with _random_lock, torch.random.fork_rng(devices=[]), seeded(device, own):
        torch.default_generator.manual_seed(own)
        return function(*args, **kwargs)


class _Writer:
    """Writes one segment's function."""

    def __init__(self, graph: Graph, device: torch.device, keys: Mapping[str, str]) -> None:
        self.graph, self.device, self.keys = graph, device, keys
        self.names: dict[str, str] = {}
        self.bound: dict[str, Any] = {"draw": functools.partial(draw, device)}
        self.lines: list[str] = []

    def name(self, value: str) -> str:
        return self.names.setdefault(value, f"v{len(self.names)}")

    def bind(self, constant: object) -> str:
        name = f"c{len(self.bound)}"
        self.bound[name] = constant
        return name

    def argument(self, argument: Any) -> str:
        """An argument as Python source; what has no literal is bound as a global."""
        if isinstance(argument, Value):
            return self.name(argument.name)
        if isinstance(argument, (list, tuple)):
            inner = "".join(f"{self.argument(a)}, " for a in argument)
            return f"[{inner}]" if isinstance(argument, list) else f"({inner})"
        if isinstance(argument, dict):
            return "{" + "".join(f"{k!r}: {self.argument(v)}, " for k, v in argument.items()) + "}"
        if isinstance(argument, slice):
            return f"slice({', '.join(self.argument(a) for a in (argument.start, argument.stop, argument.step))})"
        if argument is None or isinstance(argument, (bool, int, str)):
            return repr(argument)
        return self.bind(self.constant(argument))

    def constant(self, argument: Any) -> Any:
        if isinstance(argument, Here):
            return self.device
        if isinstance(argument, Subgraph):
            return self.graph.subgraphs[argument.name]
        return resolve_target(argument.target) if isinstance(argument, Callee) else argument

    def call(self, op: Op) -> str:
        function = self.bind(self.function(op))
        parts = [self.argument(a) for a in op.args]
        parts += [f"{k}={self.argument(v)}" for k, v in op.kwargs.items()]
        if op.random:
            return f"draw(seed, {self.keys[op.name]!r}, {', '.join([function, *parts])})"
        return f"{function}({', '.join(parts)})"

    def function(self, op: Op) -> Callable[..., Any]:
        """What is called for an op."""
        found = portable(op.target, self.device) or direct_call(resolve_target(called_as(op.target)))
        return _as_captured(found, op.inputs[0].type) if op.target in READS_MEMORY else found

    def item(self, item: Op | Piece, dying: Sequence[str]) -> None:
        """One line for an op, or for several."""
        if isinstance(item, Op):
            self.op(item, dying)
        else:
            self.piece(item, dying)

    def op(self, op: Op, dying: Sequence[str]) -> None:
        """One line for one op, so that a traceback's line number names it."""
        results = [self.name(v.name) for v in op.outputs]
        left = f"{', '.join(results)}, = " if is_multiple(op) else "".join(f"{r} = " for r in results)
        drop = f"; del {', '.join(dying)}" if dying else ""
        self.lines.append(f"    {left}{self.call(op)}{drop}")

    def piece(self, piece: Piece, dying: Sequence[str]) -> None:
        """One line for several ops, which have the only hold of what they use last."""
        taken = "".join(f"{self.name(v)}, " for v in piece.inputs)
        results = "".join(f"{self.name(v)}, " for v in piece.outputs)
        drop = f"del {', '.join(dying)}; " if dying else ""
        call = f"{self.bind(piece)}(args)"
        boxed = f"args = {self.bind(piece.box)}([{taken}])"
        self.lines.append(f"    {boxed}; {drop}{results and f'{results}= '}{call}")


READS_MEMORY = {"aten.as_strided.default", "aten.as_strided_copy.default", "aten.as_strided_scatter.default"}
"""Ops whose result hangs on how their first argument lies in memory, which need not be as the graph says
(`called_as`)."""


def _as_captured(function: Callable[..., Any], kind: Type) -> Callable[..., Any]:
    """The same of a first argument that lies as the graph has it."""
    if not isinstance(kind, TensorType) or not kind.is_static:
        return function
    strides = kind.strides
    return lambda tensor, *args, **kwargs: function(laid_out(tensor, strides), *args, **kwargs)


def is_multiple(op: Op) -> bool:
    """Whether an op returns several values, or a list of them, rather than one."""
    return bool(op.outputs) and op.outputs[0].name != op.name


def make_kernel(
    graph: Graph, ops: Sequence[Op | Piece], run: Run, device: torch.device, where: str, keys: Mapping[str, str]
) -> Kernel:
    """Compile the ops of a segment to one function.

    Args:
        graph: that they belong to.
        ops: in order; pieces stand for several.
        run: the instruction: inputs and outputs.
        device: torch device that replaces "the device that this op is placed on".
        where: name of the device in the topology, for error messages.
        keys: op name -> structural key, for those that draw random numbers.
    """
    writer = _Writer(graph, device, keys)
    names = [writer.name(v) for v in run.inputs]
    writer.lines.append("def segment(args, seed):")
    writer.lines.append(f"    {''.join(f'{n}, ' for n in names)}= args; args.clear()" if names else "    pass")
    dying = _last_uses(ops, run)
    for op, last in zip(ops, dying, strict=True):
        writer.item(op, [writer.name(v) for v in last])
    writer.lines.append(f"    return [{', '.join(writer.name(v) for v in run.outputs)}]")
    filename = f"<torchplace {graph.name} {run.segment}>"
    exec(compile("\n".join(writer.lines), filename, "exec"), writer.bound)
    return _named_errors(writer.bound["segment"], filename, ops, where)


def make_stamped(
    graph: Graph,
    device: torch.device,
    keys: Mapping[str, str],
    ops: Sequence[Op | Piece] | None = None,
    run: Run | None = None,
) -> Callable[..., Sequence[Any]]:
    """Compile ops to one function that calls a stamp before the first of them and behind every op and its frees.

    Behind a piece, it calls one as well.

    Args:
        graph: that they belong to.
        device: torch device that replaces "the device that this op is placed on".
        keys: op name -> structural key, for those that draw random numbers.
        ops: in order, pieces stand for several; None for all of the graph.
        run: inputs and outputs; None for those of the graph.

    Returns:
        A function of the inputs, in a list that it empties, of the stamp and of the step's seed; gives the outputs.
    """
    ops = graph.ops if ops is None else ops
    run = run or whole(graph)
    writer = _Writer(graph, device, keys)
    names = [writer.name(v) for v in run.inputs]
    writer.lines.append("def stamped(args, stamp, seed=0):")
    writer.lines.append(f"    {''.join(f'{n}, ' for n in names)}= args; args.clear()" if names else "    pass")
    writer.lines.append("    stamp()")
    for op, last in zip(ops, _last_uses(ops, run), strict=True):
        writer.item(op, [writer.name(v) for v in last])
        writer.lines[-1] += "; stamp()"
    writer.lines.append(f"    return [{', '.join(writer.name(v) for v in run.outputs)}]")
    exec(compile("\n".join(writer.lines), f"<torchplace {graph.name} stamped>", "exec"), writer.bound)
    return writer.bound["stamped"]  # type: ignore[no-any-return]


def whole(graph: Graph) -> Run:
    """The instruction that runs all of a graph."""
    return Run("whole", tuple(v.name for v in graph.inputs), tuple(v.name for v in graph.output_values))


def _last_uses(ops: Sequence[Op | Piece], run: Run) -> list[list[str]]:
    """For each op, the values that nothing behind it needs."""
    last: dict[str, int] = {}
    for i, op in enumerate(ops):
        for name in (*names(op.inputs), *names(op.outputs)):
            last[name] = i
    for name in run.outputs:
        last.pop(name, None)
    ending: list[list[str]] = [[] for _ in ops]
    for name, i in last.items():
        ending[i].append(name)
    return ending


def names(values: Sequence[Value] | Sequence[str]) -> list[str]:
    """Names of values, which may be names already."""
    return [value.name if isinstance(value, Value) else value for value in values]


def _named_errors(function: Kernel, filename: str, ops: Sequence[Op | Piece], where: str) -> Kernel:
    """Raise what an op raises as an error that names the op, its source line and its device."""

    def segment(args: list[Any], seed: int) -> Sequence[Any]:
        try:
            return function(args, seed)
        except ExecutionError:
            raise
        except Exception as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == filename]
            op = ops[lines[0] - 3] if lines and lines[0] is not None and lines[0] >= 3 else None
            raise op_error(op if isinstance(op, Op) else None, where, error) from error

    return segment
