from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import pytest
from hypothesis import given

from tests.compiler.graphs import Builder, chain, graphs, tensor
from torchplace.compiler.graph import HERE, Graph, Op, Output, Value, values_in
from torchplace.compiler.types import ScalarType, Symbol, TensorType
from torchplace.errors import GraphError


def renamed(graph: Graph) -> Graph:
    """The same graph with other names for ops and for what they make."""
    names = {v.name: f"other_{i}" for i, v in enumerate(v for op in graph.ops for v in op.outputs)}
    for i, op in enumerate(graph.ops):
        op.name = f"another_{i}"
        for value in op.outputs:
            value.name, value.base = names[value.name], names.get(value.base or "", value.base)
    return graph


@given(graphs())
def test_keys_do_not_depend_on_names(graph: Graph) -> None:
    before, fingerprint = list(graph.keys().values()), graph.fingerprint()
    assert len(set(before)) == len(graph.ops), "each op has a key of its own"
    after = renamed(graph)
    assert list(after.keys().values()) == before
    assert list(after.keys()) == [op.name for op in after.ops]
    assert after.fingerprint() == fingerprint


def test_inputs_are_known_by_their_path_or_position() -> None:
    graph, other = chain(), chain()
    other.inputs[0].name = "y"
    other.inputs[1].name = "z"
    assert other.fingerprint() == graph.fingerprint()
    other.inputs[1].path = "elsewhere"
    assert other.fingerprint() != graph.fingerprint()


def _other_target(graph: Graph) -> None:
    graph.ops[1].target = "aten.sub.Tensor"


def _other_argument(graph: Graph) -> None:
    graph.ops[1].args = (*graph.ops[1].args, 2)


def _keyword(graph: Graph) -> None:
    graph.ops[0].kwargs = {"alpha": 2}


def _other_type(graph: Graph) -> None:
    graph.ops[0].outputs[0].type = tensor(4, dtype="float16")


def _other_input_type(graph: Graph) -> None:
    graph.inputs[0].type = TensorType("float32", (Symbol("s0", 4),))


def _other_kind(graph: Graph) -> None:
    graph.inputs[1].kind = "buffer"


def _swapped_operands(graph: Graph) -> None:
    graph.ops[1].args = graph.ops[1].args[::-1]


def _op_more(graph: Graph) -> None:
    graph.ops.append(Op("more", "aten.relu.default", (graph.inputs[0],)))


def _op_less(graph: Graph) -> None:
    graph.outputs = [Output(graph.ops[-2].outputs[0])]
    del graph.ops[-1]


def _other_output(graph: Graph) -> None:
    graph.outputs = [Output(graph.ops[0].outputs[0])]


def _more_outputs(graph: Graph) -> None:
    graph.outputs.append(Output(None))


CHANGES = [_other_target, _other_argument, _keyword, _other_type, _other_input_type, _other_kind]
CHANGES += [_swapped_operands, _op_more, _op_less, _other_output, _more_outputs]


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_knows_the_structure(change: Callable[[Graph], None]) -> None:
    changed = chain()
    change(changed)
    assert changed.fingerprint() != chain().fingerprint()


def test_equal_numbers_of_other_types_are_other_arguments() -> None:
    found = set()
    for argument in (1, 1.0, True, "1", [1], None):
        graph = chain()
        graph.ops[0].kwargs = {"alpha": argument}
        found.add(graph.fingerprint())
    assert len(found) == 6


def test_ops_that_are_alike_are_told_apart_by_their_order() -> None:
    b = Builder()
    x = b.input("x", 4)
    b.returns(b.add_op(x, x), b.add_op(x, x), b.add_op(x, x))
    first, *others = b.graph.keys().values()
    assert others == [f"{first}+1", f"{first}+2"]


def test_the_device_here_is_the_same_on_every_machine() -> None:
    fingerprints = set()
    for home in ("cpu", "cuda:0"):
        b = Builder(Graph("toy", home=home))
        op = b.op("aten.full.default", [2], 1.0)
        b.graph.ops[0].kwargs = {"device": HERE}
        fingerprints.add(b.returns(op).fingerprint())
    assert len(fingerprints) == 1


@given(graphs())
def test_made_graphs_pass_the_check(graph: Graph) -> None:
    graph.check()


def test_check_reports_every_fault() -> None:
    b = Builder(Graph("bad"))
    x = b.input("x", 2)
    b.input("x", 2)
    late = Value("late", tensor(2))
    b.add_op(x, late, name="one")
    b.add_op(x, name="one")
    b.graph.outputs = [Output(Value("ghost", tensor(2))), Output(None)]
    with pytest.raises(GraphError) as caught:
        b.graph.check()
    assert str(caught.value) == (
        "graph 'bad': two ops are named 'one'; two values are named 'x'; two values are named 'one'; "
        "op one takes %late before it is made; output %ghost is never made"
    )


def test_check_finds_a_view_of_nothing_and_a_write_to_no_input() -> None:
    b = Builder(Graph("bad"))
    x = b.input("x", 2)
    b.view(b.add_op(x, name="y"), name="v")
    b.graph.ops[1].outputs[0].base = "nothing"
    b.many("aten.copy_.default", b.graph.ops[0].outputs[0], x, shapes=[], name="write", mutates=("y",))
    with pytest.raises(GraphError) as caught:
        b.graph.check()
    assert str(caught.value) == (
        "graph 'bad': %v is a view of %nothing, which is not made before it; op write writes %y, which is no input"
    )


def test_check_finds_a_cycle() -> None:
    b = Builder()
    x = b.input("x", 2)
    first = b.add_op(x, name="a")
    second = b.add_op(first, name="b")
    b.graph.ops[0].args = (second,)
    with pytest.raises(GraphError, match="op a takes %b before it is made"):
        b.graph.check()


def test_to_networkx() -> None:
    b = Builder()
    x, w = b.input("x", 4), b.parameter("w", 4)
    two = b.many("aten.split.Tensor", x, 2, shapes=[(4,), (8,)], name="two")
    b.add_op(two.outputs[0], two.outputs[1], two.outputs[1], w, name="sum")
    b.add_op(two.outputs[0], name="neg")
    graph = b.graph.to_networkx()
    assert list(graph.nodes) == ["two", "sum", "neg"]
    assert graph.nodes["two"]["op"] is two
    assert graph.edges["two", "sum"] == {"values": ["two#0", "two#1"], "bytes": 16 + 32}
    assert graph.edges["two", "neg"] == {"values": ["two#0"], "bytes": 16}
    assert graph.number_of_edges() == 2


@given(graphs())
def test_to_networkx_has_every_edge(graph: Graph) -> None:
    made = graph.to_networkx()
    assert nx.is_directed_acyclic_graph(made)
    assert set(made.edges) == {(v.producer.name, op.name) for op in graph.ops for v in op.inputs if v.producer}
    for source, target, edge in made.edges(data=True):
        taken = [v for v in graph.op(target).inputs if v.producer is graph.op(source)]
        assert edge["bytes"] == sum(v.nbytes for v in taken)


def test_look_ups() -> None:
    graph = chain(3)
    assert graph.op("v1") is graph.ops[1]
    assert list(graph.values) == ["x", "w0", "w1", "w2", "v0", "v1", "v2"]
    assert [op.name for op in graph.users["v0"]] == ["v1"]
    assert graph.users["v2"] == []
    with pytest.raises(GraphError, match=r"graph 'toy' has no op 'nope'; it has 3 ops"):
        graph.op("nope")


def test_storage_follows_views_to_what_they_view() -> None:
    b = Builder()
    x = b.input("x", 4)
    one = b.view(x, "one")
    two = b.view(one, "two")
    own = b.add_op(two, name="own")
    b.view(own, "three")
    assert b.graph.storage() == {"x": "x", "one": "x", "two": "x", "own": "own", "three": "own"}


def test_op_properties() -> None:
    b = Builder()
    x, ids = b.input("x", 4), Value("ids", tensor(2, dtype="int64"))
    y = b.op("aten.index.Tensor", x, [ids, None], {"k": slice(None, x, None)}, shape=(2,))
    op = b.graph.ops[-1]
    assert op.inputs == (x, ids), "each once, in order, from lists, dicts and slices"
    assert op.bytes_moved == 16 + 16 + 8
    assert (op.dtype, op.is_view) == ("float32", False)
    b.view(y)
    assert (b.graph.ops[-1].is_view, b.graph.ops[-1].bytes_moved) == (True, 0)
    assert Op("n", "operator.add", (Value("i", ScalarType("int")), 1)).dtype == "int64"
    assert Op("n", "aten.sum.default", (ids,)).dtype == "int64"
    assert not Op("n", "aten.copy_.default").is_view, "what makes nothing is no view"


def test_values_in_finds_them_in_any_nest() -> None:
    a, b, c = (Value(n, tensor(1)) for n in "abc")
    assert list(values_in([a, (b, {"k": [slice(c, None, a)]}), "b", 3])) == [a, b, c, a]


def test_output_values_are_listed_once() -> None:
    graph = chain(2)
    last = graph.ops[-1].outputs[0]
    graph.outputs += [Output(None), Output(last, "saved"), Output(graph.inputs[0])]
    assert graph.output_values == [last, graph.inputs[0]]


def test_an_op_knows_the_state_that_it_touches() -> None:
    graph = Graph.parse(
        'graph "g" on cpu {\n  parameter %w: float32[4] = "a.w"\n  buffer %b: float32[4] = "a.b"\n'
        "  input %x: float32[4]\n  %add: float32[4] = aten.add.Tensor(%x, %w)\n"
        "  %mul: float32[4] = aten.mul.Tensor(%add, %b)\n  return output %mul\n}"
    )
    assert [op.state for op in graph.ops] == [("a.w",), ("a.b",)]
