"""Signatures: what decides an op's cost on a device, as text. Ops that are alike in it share their measurements."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from torchplace.compiler.graph import Op, Subgraph, Value
from torchplace.compiler.types import ScalarType, TensorType, Type


def signature(op: Op) -> str:
    """An op's target and arguments: a tensor by its dtype, sizes and strides at the hints, all else by its value.

    The number of an op's tensors that are the same tensor, and what they hold, is not in it. Cost: linear in the
    arguments.
    """
    made = ", ".join(_type(v.type) for v in op.outputs)
    return f"{op.target}{_argument(op.args)}{_argument(op.kwargs) if op.kwargs else ''} -> {made}"


def signature_key(op: Op) -> str:
    """20 hex digits that stand for an op's signature in the store; kept with the op."""
    key = op.__dict__.get("_signature_key")
    if key is None:
        key = hashlib.blake2b(signature(op).encode(), digest_size=10).hexdigest()
        op.__dict__["_signature_key"] = key
    return str(key)


def segment_key(ops: Sequence[Op], outputs: Sequence[str]) -> str:
    """20 hex digits that stand for ops that run as one: their signatures, what feeds what, and what is kept of it.

    Args:
        ops: in order.
        outputs: names of the values that are used behind them.
    """
    numbers: dict[str, int] = {}

    def numbered(names: Sequence[str]) -> list[int]:
        return [numbers.setdefault(name, len(numbers)) for name in names]

    lines = [
        f"{signature_key(op)} {numbered([v.name for v in op.inputs])} {numbered([v.name for v in op.outputs])}"
        for op in ops
    ]
    text = "\n".join([*lines, str(numbered(outputs))])
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _type(type_: Type) -> str:
    if isinstance(type_, ScalarType):
        return type_.kind
    sizes = "x".join(map(str, type_.sizes))
    return f"{type_.dtype}[{sizes}]" + (f"{{{','.join(map(str, type_.stride))}}}" if type_.stride is not None else "")


def _argument(argument: object) -> str:
    if isinstance(argument, Value):
        return _value(argument)
    if isinstance(argument, Subgraph):
        return "subgraph"
    if isinstance(argument, (tuple, list)):
        return "(" + ", ".join(map(_argument, argument)) + ")"
    if isinstance(argument, Mapping):
        return "{" + ", ".join(f"{k}={_argument(v)}" for k, v in sorted(argument.items())) + "}"
    if isinstance(argument, slice):
        return f"slice{_argument((argument.start, argument.stop, argument.step))}"
    return repr(argument)


def _value(value: Value) -> str:
    """A tensor by its type; an integer that is an expression over symbols by its hint."""
    if isinstance(value.type, TensorType) or value.type.symbol is None:
        return _type(value.type)
    return str(value.type.symbol.hint)
