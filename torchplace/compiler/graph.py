"""The IR: a graph of ops and the values that flow between them, with all that placement needs to know."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from torchplace.compiler.types import TensorType, Type
from torchplace.errors import GraphError

if TYPE_CHECKING:
    import networkx as nx
    import torch

Phase = Literal["forward", "backward", "weight-grad"]
InputKind = Literal["parameter", "buffer", "input", "tangent", "saved", "constant"]
OutputKind = Literal["output", "gradient", "saved"]

STATE: frozenset[str] = frozenset({"parameter", "buffer", "constant"})
"""Kinds of input that live on a device between calls, and so have an owner."""


class Here:
    """Stands in an op's arguments for "the device that this op is placed on"."""

    def __repr__(self) -> str:
        return "device.here"


HERE = Here()


@dataclass(frozen=True, slots=True)
class Subgraph:
    """An argument that is a graph of its own (of `torch.cond`, `scan`...); `Graph.subgraphs` holds it by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Callee:
    """An argument that is itself an operator, by its printed name."""

    target: str


@dataclass(eq=False, slots=True)
class Value:
    """A tensor (or scalar) that an op makes or a graph takes.

    Attributes:
        name: unique in the graph; printed with a leading `%`.
        type: dtype, shape, strides.
        producer: the op that makes it; None for an input of the graph.
        kind: for an input of the graph, what it is.
        path: for a parameter or buffer, its full name in the model; else "".
        base: name of the value whose memory it shares (it is a view); None when it has memory of its own.
    """

    name: str
    type: Type
    producer: Op | None = None
    kind: InputKind | None = None
    path: str = ""
    base: str | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that a transfer of it moves, at the hints."""
        return self.type.nbytes

    @property
    def storage_bytes(self) -> int:
        """Bytes of memory that it takes where it has memory of its own, at the hints."""
        return self.type.storage_bytes

    def __repr__(self) -> str:
        return f"%{self.name}"


@dataclass(eq=False)
class Op:
    """One node of the captured ATen graph. Its arguments change by `rewire` alone, once its inputs have been asked for.

    Attributes:
        name: unique in the graph.
        target: what it calls: `aten.mm.default`, `operator.mul`, `higher_order.cond`.
        args: positional arguments; values stand in them as `Value`, also inside lists.
        kwargs: keyword arguments, likewise.
        outputs: the values that it makes.
        phase: forward, backward (gradient of an activation) or weight-grad.
        module: path of the module that it came from; "" at the root.
        source: `file.py:line` of the user's (or library's) code.
        hint: device that the code asks for it to be on (`place`); "" for none.
        flops: floating-point operations, at the hints.
        mutates: names of the graph inputs that it writes (mutated state stays with its buffer).
        random: it draws random numbers: from (step seed, its key, micro-batch).
    """

    name: str
    target: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[Value, ...] = ()
    phase: Phase = "forward"
    module: str = ""
    source: str = ""
    hint: str = ""
    flops: int = 0
    mutates: tuple[str, ...] = ()
    random: bool = False

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """The values among its arguments, each once, in order."""
        return tuple(dict.fromkeys(values_in((self.args, self.kwargs))))

    def rewire(self, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        """Give it other arguments; keyword arguments stay as they are where none are given."""
        self.args, self.kwargs = args, self.kwargs if kwargs is None else kwargs
        self.__dict__.pop("inputs", None)  # which are found anew

    def replace_inputs(self, new: Mapping[Value, Value]) -> None:
        """Let it take other values."""
        self.rewire(replaced(self.args, new), replaced(self.kwargs, new))

    @property
    def state(self) -> tuple[str, ...]:
        """Full names of the parameters and buffers that it takes, each once, in order."""
        return tuple(v.path for v in self.inputs if v.kind in ("parameter", "buffer"))

    @property
    def is_view(self) -> bool:
        """Whether all that it makes shares the memory of an input: it moves no bytes."""
        return bool(self.outputs) and all(v.base is not None for v in self.outputs)

    @cached_property
    def bytes_moved(self) -> int:
        """Bytes that it reads and writes, at the hints; 0 for a view."""
        return 0 if self.is_view else sum(v.nbytes for v in (*self.inputs, *self.outputs))

    @cached_property
    def dtype(self) -> str:
        """Dtype that it computes in: of its first floating-point tensor, else of any tensor, else `int64`."""
        tensors = [v.type.dtype for v in (*self.inputs, *self.outputs) if isinstance(v.type, TensorType)]
        floats = [d for d in tensors if "float" in d or "complex" in d]
        return (floats or tensors or ["int64"])[0]

    def __repr__(self) -> str:
        return f"<op {self.name}: {self.target}>"


@dataclass(frozen=True, slots=True)
class Output:
    """One thing that the graph returns: a value, or a constant such as None.

    Attributes:
        value: the value; or the constant itself.
        kind: a user's output, a gradient, or a value saved for the backward part.
        path: for a gradient, the parameter's (or input's) name.
        device: where the caller expects it, unless that is where it is: on the graph's home for a user's output, else
            where the program leaves it.
    """

    value: Any
    kind: OutputKind = "output"
    path: str = ""
    device: str = ""


def values_in(argument: object) -> Iterator[Value]:
    """Every `Value` inside nested tuples, lists and dicts, in order."""
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            yield from values_in(item)
    elif isinstance(argument, Mapping):
        for item in argument.values():
            yield from values_in(item)
    elif isinstance(argument, slice):
        yield from values_in((argument.start, argument.stop, argument.step))


def replaced(argument: Any, new: Mapping[Value, Value]) -> Any:
    """An argument in which other values stand."""
    if isinstance(argument, Value):
        return new.get(argument, argument)
    if isinstance(argument, (list, tuple)):
        return type(argument)(replaced(a, new) for a in argument)
    if isinstance(argument, slice):
        return slice(*(replaced(a, new) for a in (argument.start, argument.stop, argument.step)))
    return {k: replaced(v, new) for k, v in argument.items()} if isinstance(argument, dict) else argument


@dataclass(eq=False, repr=False)
class Graph:
    """Ops in a topological order, between inputs and outputs.

    Attributes:
        name: of the model or function.
        inputs: values that it takes, in calling order.
        ops: in an order in which they can run.
        outputs: what it returns, in order.
        constants: tensors that the graph carries itself, by input name (not printed: data, not structure).
        subgraphs: graphs that ops take as arguments, by name.
        home: device on which eager would run it; outputs come back there.
    """

    name: str
    inputs: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    subgraphs: dict[str, Any] = field(default_factory=dict)
    home: str = "cpu"

    @property
    def values(self) -> dict[str, Value]:
        """Every value by name: the inputs, then what the ops make."""
        made = (v for op in self.ops for v in op.outputs)
        return {v.name: v for v in (*self.inputs, *made)}

    @property
    def output_values(self) -> list[Value]:
        """The values among the outputs, each once."""
        return list(dict.fromkeys(o.value for o in self.outputs if isinstance(o.value, Value)))

    @property
    def users(self) -> dict[str, list[Op]]:
        """Value name -> the ops that take it, in order. Cost: linear in the edges."""
        users: dict[str, list[Op]] = {name: [] for name in self.values}
        for op in self.ops:
            for value in op.inputs:
                users[value.name].append(op)
        return users

    def op(self, name: str) -> Op:
        """The op of a name.

        Raises:
            GraphError: there is none.
        """
        for op in self.ops:
            if op.name == name:
                return op
        raise GraphError(f"graph {self.name!r} has no op {name!r}; it has {len(self.ops)} ops")

    def storage(self) -> dict[str, str]:
        """Value name -> name of the value whose memory it uses (itself unless it is a view)."""
        root: dict[str, str] = {}
        for name, value in self.values.items():
            root[name] = name if value.base is None else root.get(value.base, value.base)
        return root

    def keys(self) -> dict[str, str]:
        """Op name -> canonical structural key: what it calls on what, whatever anything is named.

        Two captures of the same model give the same keys, in any process. Ops that are alike in all
        (same target on the same inputs) are told apart by their order. Cost: linear.
        """
        known = {v.name: f"{v.kind}:{v.path or i}:{v.type.structure}" for i, v in enumerate(self.inputs)}
        seen: dict[str, int] = {}
        keys: dict[str, str] = {}
        for op in self.ops:
            types = ",".join(v.type.structure for v in op.outputs)
            body = f"{op.target}({_canonical((op.args, op.kwargs), known)})->{types}"
            digest = hashlib.sha256(body.encode()).hexdigest()[:16]
            seen[digest] = seen.get(digest, -1) + 1
            keys[op.name] = digest if not seen[digest] else f"{digest}+{seen[digest]}"
            known.update((v.name, f"{keys[op.name]}#{i}") for i, v in enumerate(op.outputs))
        return keys

    def fingerprint(self, keys: Mapping[str, str] | None = None) -> str:
        """Digest of the structure: equal for two captures of the same model on the same shapes.

        Args:
            keys: those of the graph, where they are known already.
        """
        keys = self.keys() if keys is None else keys
        order = {v.name: f"{keys[op.name]}#{i}" for op in self.ops for i, v in enumerate(op.outputs)}
        order.update((v.name, v.path or str(i)) for i, v in enumerate(self.inputs))
        ends = [_canonical(o.value, order) for o in self.outputs]
        return hashlib.sha256("\n".join([*sorted(keys.values()), *ends]).encode()).hexdigest()[:32]

    def to_networkx(self) -> nx.DiGraph[str]:
        """The ops as a `networkx.DiGraph`: nodes carry `op`, edges `values` and their `bytes`."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph(name=self.name)
        graph.add_nodes_from((op.name, {"op": op}) for op in self.ops)
        for op in self.ops:
            for value in op.inputs:
                if value.producer is not None:
                    _add_edge(graph, value.producer.name, op.name, value)
        return graph

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}: {len(self.inputs)} inputs, {len(self.ops)} ops, {len(self.outputs)} outputs>"

    def __str__(self) -> str:
        from torchplace.compiler.text import print_graph

        return print_graph(self)

    @classmethod
    def parse(cls, text: str) -> Graph:
        """Read a graph as `str()` prints it (constants and subgraphs, which are data, stay empty).

        Raises:
            GraphError: the text breaks the grammar; says on which line.
        """
        from torchplace.compiler.text import parse_graph

        return parse_graph(text)

    def check(self) -> None:
        """Check the rules that every pass relies on.

        Raises:
            GraphError: names every fault: a name used twice, a value used before it is made, a view of nothing, a
                write to what is no input.
        """
        faults = [*_duplicates((op.name for op in self.ops), "op"), *_duplicates(self._names(), "value")]
        taken = {v.name for v in self.inputs}
        made = set(taken)
        for op in self.ops:
            faults += [f"op {op.name} takes {v!r} before it is made" for v in op.inputs if v.name not in made]
            faults += [
                f"{v!r} is a view of %{v.base}, which is not made before it"
                for v in op.outputs
                if v.base is not None and v.base not in made
            ]
            faults += [f"op {op.name} writes %{name}, which is no input" for name in op.mutates if name not in taken]
            made.update(v.name for v in op.outputs)
        faults += [f"output {v!r} is never made" for v in self.output_values if v.name not in made]
        if faults:
            raise GraphError(f"graph {self.name!r}: " + "; ".join(faults))

    def _names(self) -> Iterator[str]:
        yield from (v.name for v in self.inputs)
        yield from (v.name for op in self.ops for v in op.outputs)


def _canonical(argument: object, known: Mapping[str, str]) -> str:
    if isinstance(argument, Value):
        return f"%{known[argument.name]}"
    if isinstance(argument, (tuple, list)):
        return "(" + ",".join(_canonical(item, known) for item in argument) + ")"
    if isinstance(argument, Mapping):
        return "{" + ",".join(f"{k}:{_canonical(v, known)}" for k, v in sorted(argument.items(), key=_key)) + "}"
    if isinstance(argument, slice):
        return "slice" + _canonical((argument.start, argument.stop, argument.step), known)
    return repr(argument)


def _key(item: tuple[object, object]) -> str:
    return repr(item[0])


def _add_edge(graph: nx.DiGraph[str], source: str, target: str, value: Value) -> None:
    if not graph.has_edge(source, target):
        graph.add_edge(source, target, values=[], bytes=0)
    graph.edges[source, target]["values"].append(value.name)
    graph.edges[source, target]["bytes"] += value.nbytes


def _duplicates(names: Iterable[str], what: str) -> list[str]:
    seen: set[str] = set()
    faults = []
    for name in names:
        if name in seen:
            faults.append(f"two {what}s are named {name!r}")
        seen.add(name)
    return faults
