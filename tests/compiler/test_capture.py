from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from torchplace.compiler.capture import Captured, Capturer
from torchplace.compiler.compiled import compile_module
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.dynamo import outside_modes
from torchplace.compiler.graph import HERE, Graph
from torchplace.compiler.types import Symbol, TensorType


def capture(target: Callable[..., Any], *args: Any, training: bool = True, **options: Any) -> Captured:
    """The one graph of a call; every captured graph obeys the IR's rules and round-trips as text."""
    [captured] = capture_dry(target, args, options.pop("kwargs", {}), training=training, **options)
    for graph in (captured.graph, *captured.parts):
        graph.check()
        assert str(Graph.parse(str(graph))) == str(graph)
        assert Graph.parse(str(graph)).keys() == graph.keys()
    return captured


def inputs(graph: Graph, *kinds: str) -> list[str]:
    return [v.name for v in graph.inputs if v.kind in kinds]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(ids))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x: torch.Tensor, *, shift: torch.Tensor) -> torch.Tensor:
        return self.body(x) * self.scale + shift


def test_names_of_all_that_a_graph_takes_and_returns() -> None:
    captured = capture(Normed(), torch.randn(3, 4), kwargs={"shift": torch.randn(4, requires_grad=True)})
    graph = captured.graph
    assert inputs(graph, "parameter") == ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]
    norm = "body.1."
    assert sorted(inputs(graph, "buffer")) == [
        f"{norm}num_batches_tracked", f"{norm}running_mean", f"{norm}running_var", "scale",
    ]  # fmt: skip
    assert inputs(graph, "input") == ["x", "shift"]
    assert inputs(graph, "tangent") == ["tangents_1"]
    assert all(v.path == (v.name if v.kind in ("parameter", "buffer") else "") for v in graph.inputs)
    gradients = [o.path for o in graph.outputs if o.kind == "gradient" and o.value is not None]
    assert gradients == ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias", "shift"]
    assert [o.kind for o in graph.outputs[:2]] == ["output", "gradient"]
    assert sorted(captured.state) == sorted(inputs(graph, "parameter", "buffer"))


def test_running_statistics_are_updates_of_their_buffers() -> None:
    captured = capture(Normed(), torch.randn(3, 4), kwargs={"shift": torch.randn(4)})
    for graph in (captured.graph, captured.parts[0]):
        writes = [op for op in graph.ops if op.mutates]
        assert sorted(op.mutates[0] for op in writes) == [
            "body.1.num_batches_tracked", "body.1.running_mean", "body.1.running_var",
        ]  # fmt: skip
        assert all(op.target == "aten.copy_.default" and not op.outputs for op in writes)
        assert all(op.phase == "forward" for op in writes)
    assert not [op for op in captured.parts[1].ops if op.mutates]


def test_parts_of_a_joint_graph_share_its_names() -> None:
    captured = capture(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), torch.randn(3, 4))
    graph, (forward, backward) = captured.graph, captured.parts
    assert captured.training
    assert {op.name for part in captured.parts for op in part.ops} == {op.name for op in graph.ops}
    types = {name: v.type for name, v in graph.values.items()}
    for part in captured.parts:
        assert all(types[name] == v.type for name, v in part.values.items())
        phases = {op.name: op.phase for op in part.ops}
        assert phases == {op.name: op.phase for op in graph.ops if op.name in phases}
    saved = [o.value.name for o in forward.outputs if o.kind == "saved"]
    assert saved
    assert [v.name for v in backward.inputs if v.kind != "tangent"] == saved
    assert {v.kind for v in backward.inputs} <= {"saved", "parameter", "input", "tangent"}
    assert [o.kind for o in forward.outputs] == ["output"] + ["saved"] * len(saved)
    assert [(o.path, o.kind) for o in backward.outputs] == [(o.path, o.kind) for o in graph.outputs[1:]]


def test_a_tied_parameter_is_one_input_with_one_gradient() -> None:
    graph = capture(Tied(), torch.arange(3)).graph
    assert inputs(graph, "parameter") == ["embed.weight"]
    assert [o.path for o in graph.outputs if o.kind == "gradient" and o.value] == ["embed.weight"]
    [parameter] = [v for v in graph.inputs if v.kind == "parameter"]
    assert len(graph.users[parameter.name]) >= 2


def test_an_inference_graph_has_one_part_and_one_phase() -> None:
    captured = capture(Tied(), torch.arange(3), training=False)
    assert not captured.training
    assert captured.parts == (captured.graph,)
    assert {op.phase for op in captured.graph.ops} == {"forward"}
    assert [o.kind for o in captured.graph.outputs] == ["output"]


def test_names_are_plain_and_unique_whatever_the_model_calls_things() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict({"conv 1": nn.Linear(4, 4), "conv,1": nn.Linear(4, 4)})
            self.held = nn.ParameterDict({'x[0] "y"': nn.Parameter(torch.ones(4))})

        def forward(self, x: torch.Tensor, mul: torch.Tensor) -> torch.Tensor:
            for layer in self.layers.values():
                x = layer(x)
            return x * self.held['x[0] "y"'] * mul

    graph = capture(Odd(), torch.randn(2, 4), torch.randn(4, requires_grad=True)).graph
    assert all(re.fullmatch(r"[\w.]+", v.name) for v in graph.inputs)
    paths = [v.path for v in graph.inputs if v.kind == "parameter"]
    assert paths[0] == "layers.conv 1.weight"
    assert 'held.x[0] "y"' in paths
    last = [v.name for v in graph.inputs if v.kind == "input"][-1]
    assert last == "mul_", "an op is called mul"
    assert graph.outputs[-1].path == last


def test_functions_and_nested_arguments() -> None:
    def add(x: torch.Tensor, rest: dict[str, list[torch.Tensor]]) -> tuple[torch.Tensor, None, int]:
        return x + rest["more"][1], None, 3

    captured = capture(add, torch.ones(2), {"more": [torch.ones(1), torch.ones(2)]}, training=False)
    assert inputs(captured.graph, "input") == ["x", "rest_more_1"]
    assert captured.graph.name == "add"
    assert captured.state == {}


def test_in_place_writes_to_the_callers_tensors_are_updates() -> None:
    def bump(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x * 2

    graph = capture(bump, torch.ones(3), training=False).graph
    assert [(op.target, op.mutates) for op in graph.ops if op.mutates] == [("aten.copy_.default", ("x",))]


def test_dynamic_shapes_are_symbols_with_hints() -> None:
    graph = capture(nn.Linear(4, 2), torch.randn(3, 4), dynamic=True, training=False).graph
    [x] = [v for v in graph.inputs if v.kind == "input" and isinstance(v.type, TensorType)]
    assert isinstance(x.type, TensorType)
    [batch] = [d for d in x.type.shape if isinstance(d, Symbol)]
    assert batch.hint == 3
    out = graph.output_values[0].type
    assert isinstance(out, TensorType)
    assert out.shape == (batch, 2)
    assert out.sizes == (3, 2)
    sizes = [v for v in graph.inputs if str(v.type) == f"int{batch}"]
    assert len(sizes) <= 1
    static = capture(nn.Linear(4, 2), torch.randn(3, 4), training=False).graph
    assert [op.flops for op in graph.ops] == [op.flops for op in static.ops]


def test_a_dynamic_graph_is_the_same_at_every_size() -> None:
    graphs = [
        capture(nn.Linear(4, 2), torch.randn(batch, 4), dynamic=True, training=training).graph
        for training in (False, True)
        for batch in (3, 5)
    ]
    fingerprints = [graph.fingerprint() for graph in graphs]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2] == fingerprints[3]


def test_a_capture_says_what_sizes_it_is_for() -> None:
    model, x = nn.Linear(4, 2), torch.randn(3, 4)
    assert capture(model, x, training=False).holds == ()
    assert capture(model, x, training=True, dynamic=True).holds == ("input[0] of 2 or more",)
    torch._dynamo.mark_dynamic(x, 0, min=2, max=64)
    assert capture(model, x, training=False).holds == ("input[0] from 2 to 64",)
    both = capture(lambda x, y: x.view(-1, 2) * y, torch.randn(8, 2), torch.randn(8, 2), training=False, dynamic=True)
    assert both.holds[:2] == ("x[0] of 2 or more", "y[0] = x[0]")
    paired = capture(lambda x: x.view(-1, 8, 3).sum(1), torch.randn(16, 3), training=False, dynamic=True)
    assert paired.holds[0] == "x[0] of 2 or more"
    assert "Ne((x[0]//8), 0)" in paired.holds
    assert paired.holds[-1].endswith("more conditions")


def test_sizes_that_depend_on_data_count_as_one() -> None:
    graph = capture(lambda x: torch.nonzero(x) * 2, torch.ones(3), training=False, fullgraph=True).graph
    [out] = [o.type for o in graph.output_values if isinstance(o.type, TensorType)]
    assert isinstance(out.shape[0], Symbol)
    assert out.sizes == (1, 1)


def test_devices_of_factories_are_here() -> None:
    graph = capture(lambda x: x + torch.arange(3, device=x.device), torch.ones(3), training=False).graph
    [made] = [op for op in graph.ops if op.target.startswith("aten.arange")]
    assert made.kwargs["device"] is HERE


def test_random_ops_are_marked_and_attention_only_with_dropout() -> None:
    graph = capture(lambda x: torch.rand_like(x) + x, torch.ones(3), training=False).graph
    assert [op.random for op in graph.ops] == [True, False]
    for p, expected in ((0.0, []), (0.5, [True])):
        q = torch.randn(1, 1, 4, 8)
        attention = capture(
            lambda q, p=p: nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=p), q, training=False
        ).graph
        assert [op.random for op in attention.ops if op.random] == expected


def test_where_ops_come_from() -> None:
    graph = capture(Normed(), torch.randn(3, 4), kwargs={"shift": torch.randn(4)}, training=False).graph
    by_target = {op.target: op for op in graph.ops}
    assert by_target["aten.addmm.default"].module == "body.0"
    assert by_target["aten.mul.Tensor"].module == ""
    assert re.fullmatch(r"compiler/test_capture.py:\d+", by_target["aten.mul.Tensor"].source)
    assert by_target["aten.addmm.default"].flops == 2 * 3 * 4 * 4
    assert by_target["aten.t.default"].flops == 0
    assert by_target["aten.t.default"].is_view


def test_tensors_that_the_code_holds_are_constants_or_inputs() -> None:
    table = torch.arange(4.0)
    graph = capture(lambda x: x + table + torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(4), training=False).graph
    held = {v.kind for v in graph.inputs if v.name != "x"}
    assert held <= {"constant", "input"}
    assert set(graph.constants) == set(inputs(graph, "constant"))


def broken(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    torch._dynamo.graph_break()
    return y * 2


def test_graph_breaks_give_several_graphs() -> None:
    found = capture_dry(broken, (torch.ones(2),), {}, training=False)
    assert [[op.target for op in c.graph.ops] for c in found] == [["aten.add.Tensor"], ["aten.mul.Tensor"]]


class _StopError(Exception):
    pass


def wet(compile_with: Callable[[Capturer], Callable[..., Any]], names: dict[int, str], *args: Any) -> Captured:
    """What a real call captures; it is stopped when the graph should run."""
    found: list[Captured] = []

    def run(_: list[Any]) -> Sequence[Any]:
        raise _StopError

    def handler(captured: Captured) -> Sequence[Callable[[list[Any]], Sequence[Any]]]:
        found.append(captured)
        return [run] * len(captured.parts)

    with pytest.raises(_StopError):
        compile_with(Capturer(handler, names=lambda: names))(*args)
    return found[0]


@pytest.mark.usefixtures("forgotten")  # sizes that other tests have given to `Sequential` would be symbols here
def test_every_way_in_captures_the_same() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.randn(3, 4)
    names = {id(t): n for pairs in (model.named_buffers(), model.named_parameters()) for n, t in pairs}
    dry = capture(model, x)
    compiled = wet(lambda capturer: torch.compile(model, backend=capturer), names, x)
    in_place = wet(lambda capturer: compile_module(model, capturer) or model, names, x)
    for other in (compiled, in_place):
        assert other.graph.fingerprint() == dry.graph.fingerprint()
        assert [v.path for v in other.graph.inputs] == [v.path for v in dry.graph.inputs]
        assert [o.path for o in other.graph.outputs] == [o.path for o in dry.graph.outputs]
        assert other.state["0.weight"] is model[0].weight, "the real tensor"


def test_names_come_from_dynamo_where_the_model_is_not_known() -> None:
    model, x = Tied(), torch.arange(3)
    known = wet(lambda c: torch.compile(model, backend=c), {id(model.embed.weight): "embed.weight"}, x)
    unknown = wet(lambda c: torch.compile(model, backend=c), {}, x)
    assert unknown.graph.fingerprint() == known.graph.fingerprint()
    assert inputs(unknown.graph, "parameter") == ["embed.weight"]


def test_outside_of_modes_ops_take_no_way_through_python() -> None:
    def through_python() -> bool:
        return "PythonDispatcher" in str(torch._C._dispatch_tls_local_include_set())

    with torch._C._EnablePythonDispatcher():  # as captures have it
        assert through_python()
        with outside_modes():
            assert not through_python(), "every op would take several microseconds more, and be timed so"
