from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.compiler.graphs import Builder, chain, graphs, placements
from tests.compiler.memory_oracle import most_alive_in_a_step
from tests.placement.graphs import Table, machine
from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.compiler.graph import Graph, Op, Output, Value
from torchplace.compiler.instructions import Send
from torchplace.compiler.verify import verify
from torchplace.placement.evaluate import Evaluator, complete
from torchplace.placement.topology import Device

MACHINE = machine([1 << 20] * 3, bandwidth=1e3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.head = nn.Linear(4, 8, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(ids)))


[CAPTURED] = capture_dry(Net(), (torch.arange(3),), {}, training=True)


@given(st.data())
def test_programs_of_both_parts_fit_together(data: st.DataObject) -> None:
    graph, (forward, backward) = CAPTURED.graph, CAPTURED.parts
    placement = data.draw(placements(graph, MACHINE.device_names))
    evaluator = Evaluator(CAPTURED, MACHINE, Table(), {})
    first, second = evaluator.programs(placement)
    verify(first)
    verify(second)
    owners = evaluator.owners(placement)
    for program in (first, second):
        held = {n: e.device for n, e in program.inputs.items() if e.resident}
        assert held.items() <= owners.items(), "state starts with its owner"
    saved = {o.value.name: e.device for o, e in zip(forward.outputs, first.outputs, strict=True) if o.kind == "saved"}
    for value in backward.inputs:
        if value.name in saved and value.kind == "saved":
            assert second.inputs[value.name].device == saved[value.name], "what is saved is taken where it was left"
    for output, end in zip(backward.outputs, second.outputs, strict=True):
        if isinstance(output.value, Value) and output.path in owners:
            assert end.device == owners[output.path], "a gradient ends with its parameter"


@given(st.data())
def test_the_timeline_is_forward_then_backward(data: st.DataObject) -> None:
    placement = data.draw(placements(CAPTURED.graph, MACHINE.device_names))
    evaluator = Evaluator(CAPTURED, MACHINE, Table(), {})
    programs = evaluator.programs(placement)
    timeline = evaluator.simulate(programs)
    ran = sum(len(s.ops) for p in programs for s in p.segments.values())
    writes = sum(bool(op.mutates) for op in CAPTURED.graph.ops)
    assert ran + writes == len(CAPTURED.graph.ops)
    assert sum(timeline.busy(d) for d in MACHINE.device_names) == pytest.approx(ran), "an op takes a second"
    sent = sum(p.values[i.value].nbytes for p in programs for _, i in p if isinstance(i, Send))
    assert sum(timeline.link_bytes.values()) == 2 * sent, "each over two links"


def test_state_takes_memory_in_a_part_that_does_not_use_it() -> None:
    one = Builder(Graph("forward"))
    x, w = one.input("x", 1), one.parameter("w", 100)
    one.returns(one.add_op(x, w, shape=(1,), name="y"))
    two = Builder(Graph("backward"))
    two.gradient(w, two.add_op(two.add("t", "tangent", 1), shape=(100,), name="gw"))
    whole = Graph("whole", [x, w], [*one.graph.ops, *two.graph.ops])
    evaluator = Evaluator(Captured(whole, (one.graph, two.graph), {}), MACHINE, Table(), {})
    timeline = evaluator.simulate(evaluator.programs({"y": "d0", "gw": "d0"}))
    assert timeline.peak_memory["d0"] == 400 + 4 + 400 + 8, "the parameter, the tangent, the gradient; the caller's"


def workspace(op: Op, device: Device) -> int:
    """Some bytes for some ops."""
    return 5 * (len(op.name) % 3)


@st.composite
def steps(draw: st.DrawFn) -> Captured:
    """A random forward graph that saves some of its values, views and inputs, and a backward that takes them."""
    forward = draw(graphs(max_ops=8))
    forward.outputs = [o for o in forward.outputs if o.kind == "output"]
    made = [*forward.inputs, *(v for op in forward.ops for v in op.outputs)]
    saved = draw(st.lists(st.sampled_from(made), unique_by=lambda v: v.name))
    forward.outputs += [Output(v, "saved") for v in saved]
    b = Builder(Graph("backward"))
    b.graph.inputs = [Value(v.name, v.type, kind=v.kind or "saved", path=v.path) for v in saved]
    values = [*b.graph.inputs, b.add("tangent", "tangent", 4)]
    for i in range(draw(st.integers(0, 6))):
        source = draw(st.sampled_from(values))
        shape = (draw(st.integers(1, 64)),)
        made = [b.view(source, f"late{i}")] if draw(st.booleans()) else [b.add_op(source, shape=shape, name=f"late{i}")]
        values += made
    for parameter in [v for v in forward.inputs if v.kind == "parameter"]:
        if draw(st.booleans()):
            b.gradient(parameter, draw(st.sampled_from(values)))
    whole = Graph("whole", [*forward.inputs, values[len(saved)]], [*forward.ops, *b.graph.ops])
    return Captured(whole, (forward, b.graph), {})


@given(steps(), st.data())
def test_the_memory_of_a_step_is_that_of_python_references(captured: Captured, data: st.DataObject) -> None:
    placement = data.draw(placements(captured.graph, MACHINE.device_names))
    evaluator = Evaluator(captured, MACHINE, Table(), {}, workspace)
    programs = evaluator.programs(placement)
    peaks = evaluator.simulate(programs).peak_memory
    for device in MACHINE.device_names:
        expected = most_alive_in_a_step(programs, captured.parts, device, lambda op: workspace(op, MACHINE.devices[0]))
        assert peaks[device] == expected
    assert {d: sum(parts.values()) for d, parts in evaluator.memory(programs).items()} == peaks


def test_the_state_of_an_optimizer_is_with_its_parameter_all_the_time() -> None:
    graph = chain(2)
    captured = Captured(graph, (graph,), {})
    plain = Evaluator(captured, MACHINE, Table(), {})
    laden = Evaluator(captured, MACHINE, Table(), {}, optimizer={"w1": 1000, "gone": 7})
    placement = {"v0": "d0", "v1": "d1"}
    light, heavy = (e.simulate(e.programs(placement)).peak_memory for e in (plain, laden))
    assert heavy == light | {"d1": light["d1"] + 1000}
    assert laden.memory(laden.programs(placement))["d1"]["optimizer"] == 1000


def test_owners_are_where_state_is_used_first_unless_it_is_somewhere_already() -> None:
    captured = Captured(chain(2), (), {})
    placement = {"v0": "d1", "v1": "d2"}
    assert Evaluator(captured, MACHINE, Table(), {}).owners(placement) == {"w0": "d1", "w1": "d2"}
    assert Evaluator(captured, MACHINE, Table(), {"w1": "d0"}).owners(placement) == {"w0": "d1", "w1": "d0"}


def test_fixed_state_is_sent_to_where_it_is_used() -> None:
    graph = chain(2)
    captured = Captured(graph, (graph,), {})
    [program] = Evaluator(captured, MACHINE, Table(), {"w0": "d1"}).programs({"v0": "d0", "v1": "d0"})
    assert program.instructions["d1"] == [Send("w0", "d0")]


def test_ops_that_only_a_part_has_go_where_their_inputs_are() -> None:
    b = Builder(Graph("part"))
    saved = b.add("saved", "saved", 4)
    one = b.add_op(saved, name="one")
    b.add_op(one, name="two")
    b.op("aten.full.default", [4], 1.0, name="alone")
    assert complete(b.graph, {}, {"saved": "d2"}, "d0") == {"one": "d2", "two": "d2", "alone": "d0"}
    assert complete(b.graph, {"one": "d1"}, {"saved": "d2"}, "d0") == {"one": "d1", "two": "d1", "alone": "d0"}
