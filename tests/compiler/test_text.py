from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, graphs
from torchplace.compiler.graph import HERE, Callee, Graph, Op, Output, Subgraph, Value
from torchplace.compiler.literals import print_argument
from torchplace.compiler.text import print_graph
from torchplace.compiler.types import ScalarType, Symbol, TensorType
from torchplace.errors import GraphError

STRINGS = st.text(max_size=8) | st.sampled_from(["it's", 'a "b"', "%x", "a, b", "(", "}", "# no", "\\", "\n", " | {"])
NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from([0, -1, True, False, math.inf, -math.inf, -0.0, complex(0, -1), complex(-0.0, math.inf)])
)
TORCHS = st.sampled_from(
    [
        torch.float32,
        torch.int64,
        torch.float8_e4m3fn,
        torch.strided,
        torch.sparse_coo,
        torch.contiguous_format,
        torch.channels_last,
        torch.device("cuda:1"),
        torch.device("cpu"),
        torch.device("meta"),
    ]
)
MARKS = st.sampled_from([None, ..., HERE]) | st.builds(Subgraph, STRINGS) | st.builds(Callee, STRINGS)
BOUNDS = st.none() | st.integers()
LEAVES = STRINGS | NUMBERS | TORCHS | MARKS | st.builds(slice, BOUNDS, BOUNDS, BOUNDS)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(STRINGS | st.integers(), inner, max_size=2)
        ),
        max_leaves=6,
    )


TYPES = st.sampled_from(
    [
        TensorType("float32", (2, Symbol("2*s0 + 1", 7)), (1, 2)),
        TensorType("int64", ()),
        ScalarType("int", Symbol("Max(1, s0)", 3)),
        ScalarType("bool"),
        ScalarType("object"),
    ]
)
KEYS = st.sampled_from(["dim", "keepdim", "from", "lambda", "a b", "dtype"])


@st.composite
def rich_graphs(draw: st.DrawFn) -> Graph:
    """Graphs whose ops have every sort of argument, note and type."""
    graph = Graph(draw(STRINGS), home=draw(st.sampled_from(["cpu", "cuda:0"])))
    kinds = st.sampled_from(["parameter", "buffer", "input", "tangent", "saved", "constant"])
    for i in range(draw(st.integers(1, 3))):
        graph.inputs.append(Value(f"in.{i}", draw(TYPES), kind=draw(kinds), path=draw(STRINGS)))
    values = list(graph.inputs)
    for i in range(draw(st.integers(0, 4))):
        values += _rich_op(draw, graph, f"op_{i}", values)
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["output", "gradient", "saved"]))
        device = draw(st.sampled_from(["", "", "cuda:1", "cpu"]))
        graph.outputs.append(Output(draw(LEAVES | st.sampled_from(values)), kind, draw(STRINGS), device))
    return graph


def _rich_op(draw: st.DrawFn, graph: Graph, name: str, values: list[Value]) -> tuple[Value, ...]:
    arguments = nested(LEAVES | st.sampled_from(values))
    op = Op(name, draw(st.sampled_from(["aten.mm.default", "operator.mul", "higher_order.cond"])))
    op.args = tuple(draw(st.lists(arguments, max_size=3)))
    op.kwargs = draw(st.dictionaries(KEYS, arguments, max_size=2))
    op.phase = draw(st.sampled_from(["forward", "backward", "weight-grad"]))
    op.module, op.source, op.hint, op.flops = draw(STRINGS), draw(STRINGS), draw(STRINGS), draw(st.integers(0, 1 << 60))
    op.mutates = tuple(draw(st.lists(st.sampled_from([v.name for v in graph.inputs]), max_size=2)))
    op.random = draw(st.booleans())
    base = draw(st.none() | st.sampled_from([v.name for v in values]))
    count = draw(st.integers(0, 3))
    names = [name] if count == 1 else [f"{name}#{i}" for i in range(count)]
    op.outputs = tuple(Value(n, draw(TYPES), op, base=base) for n in names)
    graph.ops.append(op)
    return op.outputs


@given(rich_graphs())
def test_rich_graphs_round_trip(graph: Graph) -> None:
    again = Graph.parse(str(graph))
    assert str(again) == str(graph)
    assert again.fingerprint() == graph.fingerprint()
    assert again.keys() == graph.keys()
    assert [_plain(op) for op in again.ops] == [_plain(op) for op in graph.ops]
    assert (again.name, again.home) == (graph.name, graph.home)
    assert [(v.name, v.type, v.kind, v.path) for v in again.inputs] == [
        (v.name, v.type, v.kind, v.path) for v in graph.inputs
    ]
    assert [(_plain(o.value), o.kind, o.path, o.device) for o in again.outputs] == [
        (_plain(o.value), o.kind, o.path, o.device) for o in graph.outputs
    ]


@given(graphs())
def test_graphs_round_trip(graph: Graph) -> None:
    again = Graph.parse(str(graph))
    assert str(again) == str(graph)
    assert again.fingerprint() == graph.fingerprint()
    assert again.storage() == graph.storage()
    assert all(v.producer is None or v in v.producer.outputs for v in again.values.values())
    again.check()


def _plain(thing: Any) -> Any:
    """What a thing is, with types, and values by name, so that it can be compared (also -0.0 and 0.0, 1 and True)."""
    if isinstance(thing, Op):
        fields = (
            thing.name,
            thing.target,
            thing.phase,
            thing.module,
            thing.source,
            thing.hint,
            thing.flops,
            thing.random,
        )
        return (*fields, *map(_plain, (thing.args, thing.kwargs, thing.outputs, thing.mutates)))
    if isinstance(thing, Value):
        return ("value", thing.name, str(thing.type), thing.base)
    if isinstance(thing, (list, tuple)):
        return (type(thing), *map(_plain, thing))
    if isinstance(thing, dict):
        return ("dict", *((k, _plain(v)) for k, v in thing.items()))
    return (type(thing), repr(thing))


def test_not_a_number_round_trips() -> None:
    b = Builder()
    b.op("aten.full.default", [2], math.nan, [math.nan, complex(math.nan, 1.0)])
    again = Graph.parse(str(b.graph))
    assert str(again) == str(b.graph)
    assert math.isnan(again.ops[0].args[1])
    assert again.fingerprint() == b.graph.fingerprint()


def test_what_is_printed() -> None:
    b = Builder(Graph("Net"))
    ids, w = b.input("ids", 2), b.parameter("wte.weight", 10, 4)
    e = b.op("aten.embedding.default", w, ids, shape=(2, 4), name="embedding", module="wte")
    b.returns(b.view(e, "view"))
    b.gradient(w, e)
    assert str(b.graph).splitlines() == [
        'graph "Net" on cpu {',
        "  input %ids: float32[2]",
        '  parameter %wte.weight: float32[10, 4] = "wte.weight"',
        "  %embedding: float32[2, 4] = aten.embedding.default(%wte.weight, %ids) | {'module': 'wte'}",
        "  %view: float32[2, 4] view of %embedding = aten.view.default(%embedding, [-1])",
        '  return output %view, gradient "wte.weight" %embedding',
        "}",
    ]


def test_constants_are_named_and_not_printed() -> None:
    b = Builder()
    b.returns(b.add_op(b.add("mask", "constant", 4)))
    b.graph.constants["mask"] = torch.ones(4)
    again = Graph.parse(str(b.graph))
    assert again.constants == {}
    assert again.inputs[0].kind == "constant"


def test_what_cannot_be_printed_is_an_error() -> None:
    with pytest.raises(GraphError, match=r"cannot print the argument .*type=object"):
        print_argument([1, object()])
    with pytest.raises(GraphError, match=r"cannot print the argument tensor.*type=Tensor"):
        print_graph_of(torch.ones(1))


def print_graph_of(argument: object) -> str:
    b = Builder()
    b.op("aten.mm.default", argument)
    return print_graph(b.graph)


HEAD, END = 'graph "g" on cpu {\n  input %x: float32[2]', "\n}"
BAD_LINES = {
    "nonsense": "expected an input, '%name: type = target",
    "input %y: float99[2]": "unknown dtype 'float99'",
    "parameter %y: float32[2": "cannot read the type",
    "%a: float32[2] = aten.relu.default(%nobody)": "%nobody is used before it is made",
    "%a: float32[2] = aten.relu.default(%x": "",
    "%a: float32[2] = aten.relu.default(%x) | {'colour': 1}": "expected notes like",
    "%a: float32[2] = aten.relu.default(%x) + 1": "notes",
    "%a: float32[2] = aten.relu.default(%x) | 3": "notes",
    "%a: float32[2] = aten.relu.default(exit(1))": "unknown literal exit",
    "%a: float32[2] = aten.relu.default(dtype.float99)": "unknown literal dtype.float99",
    "%a: float32[2] = aten.relu.default(os.environ)": "unknown literal os.environ",
    "%a: float32[2] = aten.relu.default(x)": "",
    "%a: float32[2] = aten.relu.default([y for y in ()])": "",
    "%a: float32[2] = aten.relu.default(device('no such'))": "",
    "%a: float32[2] = aten.relu.default(slice(1, 2, 3, 4))": "",
    "%a: float32[2] = aten.relu.default(**3)": "cannot read the keyword arguments **3; expected a dict",
    "%a: float32[2] = aten.relu.default(*3)": "",
    "%a = aten.relu.default(%x)": "cannot read the result '%a'",
    "%a: float32[2] view of x = aten.relu.default(%x)": "",
    "return result %x": "unknown kind of output 'result'",
    "return output %nobody": "%nobody is used before it is made",
    "return output": "",
    'return gradient "w %x': "",
    'input %y: float32[2] = "w': "",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named(line: str) -> None:
    with pytest.raises(GraphError) as caught:
        Graph.parse(f"{HEAD}\n  {line}{END}")
    assert str(caught.value).startswith("line 3 of the graph, ")
    assert repr(line) in str(caught.value)
    assert BAD_LINES[line] in str(caught.value)


BAD_HEADERS = ["", "graph", "graph g on cpu {\n}", 'graph "g" on cpu {', 'graph "g" {\n}', 'graph "" " on cpu {\n}']


@pytest.mark.parametrize("text", BAD_HEADERS)
def test_a_bad_header_is_an_error(text: str) -> None:
    with pytest.raises(GraphError, match="cannot read the graph; expected"):
        Graph.parse(text)


@given(st.data())
def test_damaged_text_never_raises_another_error(data: st.DataObject) -> None:
    text = str(chain(2))
    at = data.draw(st.integers(0, len(text)))
    put, cut = data.draw(st.text("%x\"'(){}[],:=|\n 0<>", max_size=2)), data.draw(st.integers(0, 3))
    with contextlib.suppress(GraphError):
        Graph.parse(text[:at] + put + text[at + cut :])
