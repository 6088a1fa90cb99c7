from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from torchplace.compiler.from_fx import FxReader, InputName, module_path, source_line, type_of
from torchplace.compiler.graph import HERE, Callee, Graph, Subgraph, Value
from torchplace.compiler.types import ScalarType, Symbol, TensorType

CPU = torch.device("cpu")


def read(module: fx.GraphModule, *names: str) -> Graph:
    graph = FxReader(module, "toy", CPU).read([InputName(n, "input") for n in names])
    graph.check()
    assert str(Graph.parse(str(graph))) == str(graph)
    return graph


def traced(function: Any, *args: torch.Tensor) -> fx.GraphModule:
    return make_fx(function, tracing_mode="fake")(*args)


def test_results_of_an_op_that_makes_several() -> None:
    graph = read(traced(lambda x: torch.max(x, dim=0)[1] + torch.split(x, 1)[0], torch.ones(2, 2)), "x")
    by_target = {op.target: op for op in graph.ops}
    assert [v.name for v in by_target["aten.max.dim"].outputs] == ["max_1#0", "max_1#1"]
    assert [str(v.type) for v in by_target["aten.max.dim"].outputs] == ["float32[2]", "int64[2]"]
    assert all(v.base == "x" for v in by_target["aten.split.Tensor"].outputs)
    assert [v.name for v in by_target["aten.add.Tensor"].inputs] == ["max_1#1", "split#0"]
    assert "getitem" not in str(graph)


def test_a_result_that_nobody_wants_is_no_tensor() -> None:
    function = torch.ops.aten.native_batch_norm_backward.default

    def backward(mask: list[bool]) -> list[str]:
        module = traced(lambda g: function(g, g, *[g[0]] * 5, True, 1e-5, mask)[2], torch.ones(2, 3))
        graph = read(module, "g")
        [op] = [op for op in graph.ops if op.target == "aten.native_batch_norm_backward.default"]
        return [str(v.type) for v in op.outputs]

    assert backward([False, True, True]) == ["object", "float32[3]", "float32[3]"]
    assert backward([True, False, True]) == ["float32[2, 3]", "object", "float32[3]"]


def test_views_know_what_they_view() -> None:
    graph = read(traced(lambda x: x.t().view(-1) + x.t().contiguous().view(-1), torch.ones(2, 1)), "x")
    bases = {v.name: v.base for op in graph.ops for v in op.outputs}
    assert bases["t"] == "x"
    assert bases["view"] == "t"
    assert bases["add"] is None
    assert graph.storage()["view"] == "x"


def test_arguments_are_kept_as_they_are() -> None:
    module = traced(lambda x: torch.cat([x, torch.full((2,), 2.5, dtype=torch.float64)])[None].sum(), torch.ones(2))
    [full] = [op for op in read(module, "x").ops if op.target == "aten.full.default"]
    assert full.args == ([2], 2.5)
    assert full.kwargs["dtype"] is torch.float64
    assert full.kwargs["device"] is HERE


def test_a_foreign_device_stays() -> None:
    graph = fx.Graph()
    full = graph.call_function(torch.ops.aten.full.default, ([2], 1), {"device": torch.device("cuda:1")})
    full.meta["val"] = torch.empty(2, device="meta")
    graph.output(full)
    op = read(fx.GraphModule({}, graph)).ops[0]
    assert op.kwargs["device"] == torch.device("cuda:1")


def test_held_tensors_and_graphs() -> None:
    inner = fx.Graph()
    inner.output(inner.placeholder("y"))
    graph = fx.Graph()
    table, branch = graph.get_attr("table"), graph.get_attr("branch")
    called = graph.call_function(torch.ops.higher_order.cond, (True, branch, branch, [table]))
    called.meta["val"] = (torch.empty(2, device="meta"),)
    graph.output((called,))
    held = torch.ones(2)
    found = read(fx.GraphModule({"table": held, "branch": fx.GraphModule({}, inner)}, graph))
    assert found.constants == {"table": held}
    assert [(v.name, v.kind) for v in found.inputs] == [("table", "constant")]
    assert list(found.subgraphs) == ["branch"]
    assert found.ops[0].args == (True, Subgraph("branch"), Subgraph("branch"), [found.inputs[0]])


def test_an_operator_as_an_argument() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    called = graph.call_function(torch.ops.higher_order.out_dtype, (torch.ops.aten.mm.default, torch.int32, x, x))
    x.meta["val"] = called.meta["val"] = torch.empty(2, 2, device="meta")
    graph.output((called,))
    op = read(fx.GraphModule({}, graph), "x").ops[0]
    assert op.args[0] == Callee("aten.mm.default")
    assert op.kwargs == {}


@pytest.mark.parametrize(
    ("value", "printed"),
    [(1, "int"), (True, "bool"), (1.5, "float"), (None, "object"), (torch.Generator(), "object"),
     (torch.ones(2, 3).t(), "float32[3, 2](1, 3)"), (torch.ones(2, 3), "float32[2, 3]"),
     (torch.ones(2, 3).to_sparse(), "float32[2, 3]"), (torch.ones(1, 3)[:, 1], "float32[1](3)")],
)  # fmt: skip
def test_types(value: Any, printed: str) -> None:
    assert str(type_of(value)) == printed


def test_symbolic_types() -> None:
    module = make_fx(lambda x: x * x.shape[0], tracing_mode="symbolic")(torch.ones(5, 3))
    x = next(iter(module.graph.nodes)).meta["val"]
    kind = type_of(x)
    assert isinstance(kind, TensorType)
    assert all(isinstance(dim, Symbol) for dim in kind.shape)
    assert kind.sizes == (5, 3)
    assert kind.stride is None, "contiguous, at the hints"
    size = type_of(x.shape[0] * 2)
    assert isinstance(size, ScalarType)
    assert size.symbol is not None
    assert size.symbol.hint == 10
    assert read(module, "x").ops[0].target == "aten.sym_size.int"


def test_module_paths_and_source_lines() -> None:
    node = fx.Graph().placeholder("x")
    assert (module_path(node), source_line(node)) == ("", "")
    node.meta["nn_module_stack"] = {"a": ("L['self'].layers.0", object), "b": ("L['self'].layers.0.norm", object)}
    node.meta["stack_trace"] = '  File "/a/user.py", line 3, in f\n    x\n  File "/a/torch/nn.py", line 7, in g\n    y'
    assert module_path(node) == "layers.0.norm"
    assert source_line(node) == "torch/nn.py:7"


def test_a_value_appears_once_for_each_input() -> None:
    graph = read(traced(lambda x, y: x + y, torch.ones(1), torch.ones(1)), "x", "other")
    assert [v.name for v in graph.inputs] == ["x", "other"]
    assert all(isinstance(v, Value) and v.kind == "input" for v in graph.inputs)
