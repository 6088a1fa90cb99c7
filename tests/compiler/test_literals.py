from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import tensor
from torchplace.compiler.graph import HERE, Value
from torchplace.compiler.literals import parse_argument, parse_call, print_argument, print_call, quote, split, unquote
from torchplace.errors import GraphError

X = Value("x.1#0", tensor(2))


@given(st.text(st.characters()))
def test_quoted_strings_come_back_and_stand_on_one_line(text: str) -> None:
    quoted = quote(text)
    assert unquote(quoted) == text
    assert quoted[0] == quoted[-1] == '"'
    assert quoted.splitlines() == [quoted]


@pytest.mark.parametrize("text", ['"', '"a" b', "plain", '"\\x"', '"a'])
def test_what_is_no_quoted_string_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="string|malformed"):
        unquote(text)


def test_split_knows_brackets_and_strings() -> None:
    assert split("") == []
    assert split("a, b") == ["a", "b"]
    assert split("f(a, b), [c, {d: e, f}], <g, h>") == ["f(a, b)", "[c, {d: e, f}]", "<g, h>"]
    assert split("""'a, (b', "c, \\", d", e""") == ["'a, (b'", '"c, \\", d"', "e"]


PRINTED = {
    "[%x.1#0, 1, -2.5]": [X, 1, -2.5],
    "(%x.1#0,)": (X,),
    "{'k': slice(None, %x.1#0, 2)}": {"k": slice(None, X, 2)},
    "dtype.float32": torch.float32,
    "memory_format.channels_last": torch.channels_last,
    "layout.strided": torch.strided,
    "device('cuda:1')": torch.device("cuda:1"),
    "device.here": HERE,
    "complex(-0.0, inf)": complex(-0.0, float("inf")),
    "...": ...,
    "'%x.1#0'": "%x.1#0",
}


@pytest.mark.parametrize("text", PRINTED)
def test_arguments(text: str) -> None:
    assert print_argument(PRINTED[text]) == text
    assert parse_argument(text, {X.name: X}) == PRINTED[text]


def test_keywords_of_python_are_arguments_too() -> None:
    text = print_call((X,), {"from": 0, "to": None})
    assert text == "(%x.1#0, **{'from': 0}, to=None)"
    assert parse_call(text, {X.name: X}) == ((X,), {"from": 0, "to": None}, {})


def test_nothing_is_evaluated() -> None:
    for text in ("exit()", "().__class__", "[x for x in ()]", "1 if 2 else 3", "__import__('os')", "open('f')"):
        with pytest.raises(GraphError):
            parse_argument(text, {})
