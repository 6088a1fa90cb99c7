from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchplace.compiler.types import (
    ScalarType,
    Symbol,
    TensorType,
    contiguous_strides,
    hint_of,
    parse_type,
    torch_dtype,
)
from torchplace.errors import GraphError

EXPRESSIONS = st.sampled_from(["s0", "2*s0 + 1", "Max(1, s0)", "(s0//2)", "s77*s27", "Mod(s0, 8)", "-s0"])
SYMBOLS = st.builds(Symbol, EXPRESSIONS, st.integers(-4, 1 << 40))
DIMS = st.integers(0, 1 << 40) | SYMBOLS
DTYPES = st.sampled_from(["float32", "bfloat16", "int64", "bool", "complex64", "float8_e4m3fn", "uint8"])
STRIDES = st.none() | st.lists(st.integers(0, 1 << 40), max_size=4).map(tuple)
TENSORS = st.builds(TensorType, DTYPES, st.lists(DIMS, max_size=4).map(tuple), STRIDES)
SCALARS = st.builds(ScalarType, st.sampled_from(["int", "float", "bool", "object"]), st.none() | SYMBOLS)


@given(TENSORS | SCALARS)
def test_round_trip(kind: TensorType | ScalarType) -> None:
    assert parse_type(str(kind)) == kind


@pytest.mark.parametrize(
    "text",
    ["", "float32", "float32[", "floaty[2]", "Tensor[2]", "float32[two]", "float32[2x3]", "float32[2,3]",
     "float32[2](a)", "float32[2](1,)", "int<s0>", "int[2", "float32[2] tail", "float32[<s0>]", "strided[2]"],
)  # fmt: skip
def test_refuses_what_is_no_type(text: str) -> None:
    with pytest.raises(GraphError, match=re.escape(repr(text)) + "|unknown dtype '(floaty|Tensor|strided)'"):
        parse_type(text)


def test_printed() -> None:
    assert str(TensorType("float32", (2, Symbol("s0", 16)))) == "float32[2, <s0=16>]"
    assert str(TensorType("int64", (2, 3), (1, 2))) == "int64[2, 3](1, 2)"
    assert str(TensorType("int64", ())) == "int64[]"
    assert str(ScalarType("int", Symbol("2*s0", 8))) == "int<2*s0=8>"


def test_bytes_are_counted_at_the_hints() -> None:
    kind = TensorType("bfloat16", (3, Symbol("s0", 5)))
    assert (kind.sizes, kind.numel, kind.nbytes) == ((3, 5), 15, 30)
    assert TensorType("float32", ()).nbytes == 4
    assert TensorType("float32", (7, 0)).nbytes == 0
    assert ScalarType("int").nbytes == 8
    assert hint_of(Symbol("s0", 5)) == hint_of(5) == 5


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 4), st.booleans())
def test_a_storage_holds_all_elements_and_no_more(rows: int, columns: int, step: int, repeated: bool) -> None:
    view = torch.empty(8, 16)[:rows, : columns * step : step]
    view = view[:1].expand(3, -1) if repeated and rows else view
    there = torch.empty_strided(view.shape, view.stride())
    kind = TensorType("float32", tuple(view.shape), view.stride())
    assert kind.storage_bytes == there.untyped_storage().nbytes()
    assert TensorType("float32", (3, Symbol("s0", 5))).storage_bytes == 60
    assert ScalarType("int").storage_bytes == 0


@given(TENSORS | SCALARS, st.integers(0, 9))
def test_the_structure_does_not_depend_on_hints(kind: TensorType | ScalarType, hint: int) -> None:
    assert at_hint(kind, hint).structure == kind.structure
    other = at_hint(kind, 3)
    assert (other.structure == str(other)) == ("<" not in str(other))


def at_hint(kind: TensorType | ScalarType, hint: int) -> TensorType | ScalarType:
    if isinstance(kind, ScalarType):
        return ScalarType(kind.kind, kind.symbol and Symbol(kind.symbol.expr, hint))
    shape = tuple(Symbol(d.expr, hint) if isinstance(d, Symbol) else d for d in kind.shape)
    return TensorType(kind.dtype, shape, kind.stride)


@given(st.lists(st.integers(0, 5), max_size=4))
def test_contiguous_strides_are_torchs(shape: list[int]) -> None:
    assert contiguous_strides(tuple(shape)) == torch.empty(shape).stride()


def test_dtypes() -> None:
    assert torch_dtype("bfloat16") is torch.bfloat16
    for name in ("float33", "Tensor", "strided"):
        with pytest.raises(GraphError, match=f"unknown dtype '{name}'"):
            torch_dtype(name)
