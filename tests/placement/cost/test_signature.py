"""Signatures: ops that cost the same share one, others do not."""

from __future__ import annotations

from tests.compiler.graphs import Builder, tensor
from torchplace.compiler.graph import Op, Value
from torchplace.compiler.types import TensorType
from torchplace.placement.cost.signature import segment_key, signature, signature_key


def op(*values: Value, name: str = "y", target: str = "aten.add.Tensor", **arguments: object) -> Op:
    return Op(name, target, values, outputs=(Value(name, tensor(4)),), **arguments)  # type: ignore[arg-type]


def value(name: str, *sizes: int, dtype: str = "float32", stride: tuple[int, ...] | None = None) -> Value:
    return Value(name, TensorType(dtype, sizes, stride))


def test_names_do_not_matter() -> None:
    one, other = op(value("a", 4), value("b", 4)), op(value("c", 4), value("d", 4), name="z")
    assert signature(one) == signature(other) == "aten.add.Tensor(float32[4], float32[4]) -> float32[4]"
    assert signature_key(one) == signature_key(other)


def test_what_decides_the_cost_does() -> None:
    plain = op(value("a", 4, 2))
    others = [
        op(value("a", 2, 4)),
        op(value("a", 4, 2, dtype="float16")),
        op(value("a", 4, 2, stride=(1, 4))),
        op(value("a", 4, 2), target="aten.mul.Tensor"),
        op(value("a", 4, 2), kwargs={"alpha": 2}),
        Op("y", "aten.add.Tensor", (value("a", 4, 2), [1, True]), outputs=(Value("y", tensor(4)),)),
    ]
    assert len({signature_key(o) for o in (plain, *others)}) == 7


def test_arguments_of_every_sort_are_written() -> None:
    b = Builder()
    x = b.input("x", 4)
    made = b.many("aten.f", [x, None], slice(0, 4, 2), {"a": 1.5, "b": "text"}, shapes=[(4,)])
    assert signature(made) == ("aten.f((float32[4], None), slice(0, 4, 2), {a=1.5, b='text'}) -> float32[4]")


def test_segments_are_told_apart_by_what_feeds_what() -> None:
    a, b = value("a", 4), value("b", 4)
    first = op(a, b, name="y")
    chain = [first, op(first.outputs[0], b, name="z")]
    x = op(value("c", 4), value("d", 4), name="u")
    renamed = [x, op(x.outputs[0], value("d", 4), name="w")]
    other = [first, op(first.outputs[0], a, name="z")]
    assert segment_key(chain, ["z"]) == segment_key(renamed, ["w"])
    assert len({segment_key(chain, ["z"]), segment_key(other, ["z"]), segment_key(chain, ["y", "z"])}) == 3
