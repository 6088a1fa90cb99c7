from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, graphs
from tests.placement.graphs import FLOAT, Table, machine, perceptron, problem, problems, training_graphs
from torchplace.compiler.graph import Output
from torchplace.compiler.lifetimes import peak_memory
from torchplace.compiler.lower import lower
from torchplace.compiler.passes.phases import assign_phases
from torchplace.placement.memory import memory_kinds, saved_bytes, state_bytes, transient_bytes
from torchplace.placement.problem import Problem


def test_a_trained_parameter_counts_twice() -> None:
    graph = perceptron((8, 4))
    assert state_bytes(graph, training=False) == {"w0": 8 * FLOAT, "w1": 4 * FLOAT}
    assert state_bytes(graph, training=True) == {"w0": 16 * FLOAT, "w1": 8 * FLOAT}


def test_a_frozen_parameter_and_a_buffer_count_once() -> None:
    b = Builder()
    frozen, buffer = b.parameter("frozen", 8), b.buffer("buffer", 4)
    b.returns(b.add_op(frozen, buffer))
    b.gradient(frozen, None)  # type: ignore[arg-type]  # the graph returns None where there is no gradient
    assert state_bytes(b.graph, training=True) == {"frozen": 8 * FLOAT, "buffer": 4 * FLOAT}


def test_two_parameters_that_share_a_gradient_each_have_one() -> None:
    b = Builder()
    one, other, tangent = b.parameter("one", 4), b.parameter("other", 4), b.add("t", "tangent", 4)
    b.returns(b.add_op(one, other))
    gradient = b.op("aten.mul.Tensor", tangent, 2)
    b.gradient(one, gradient)
    b.gradient(other, gradient)
    assert state_bytes(b.graph, training=True) == {"one": 8 * FLOAT, "other": 8 * FLOAT}


def test_saved_activations_stay_with_their_producer() -> None:
    # Layer 1 saves what layer 0 made; layer 0 saves the input, which is the caller's.
    assert saved_bytes(perceptron((8, 4)), training=True) == {"layer0": 8 * FLOAT}
    assert saved_bytes(perceptron((8, 4)), training=False) == {}


def test_memory_is_saved_once_whatever_looks_at_it() -> None:
    b = Builder()
    made = b.add_op(b.input("x", 8), shape=(8,), name="made")
    view = b.view(made, name="view")
    b.returns(b.add_op(view, b.parameter("w", 8)))
    tangent = b.add("t", "tangent", 8)
    first = b.op("aten.mul.Tensor", tangent, view, shape=(8,))
    b.gradient(b.graph.inputs[1], b.op("aten.mul.Tensor", first, made, shape=(8,)))
    assign_phases(b.graph)
    assert saved_bytes(b.graph, training=True) == {"made": 8 * FLOAT}


def test_transient_is_the_peak_of_what_comes_and_goes() -> None:
    b = Builder()
    x = b.input("x", 1)
    big = b.add_op(x, b.parameter("w", 1000), shape=(100,))
    small = b.add_op(big, shape=(10,))
    last = b.add_op(small, shape=(50,))
    b.returns(last)
    assert transient_bytes(b.graph, training=False) == (1 + 100 + 10) * FLOAT


def test_outputs_live_to_the_end() -> None:
    b = Builder()
    early = b.add_op(b.input("x", 1), shape=(100,))
    late = b.add_op(b.add_op(early, shape=(10,)), shape=(10,))
    b.returns(early, late)
    assert transient_bytes(b.graph, training=False) == (1 + 100 + 10 + 10) * FLOAT


def test_workspaces_come_and_go_too() -> None:
    b = Builder()
    one = b.add_op(b.input("x", 1), shape=(100,), name="one")
    b.returns(b.add_op(one, shape=(10,), name="two"))
    spaces = {"one": 7, "two": 1000}
    assert transient_bytes(b.graph, training=False, workspace=lambda op: spaces[op.name]) == 111 * FLOAT + 1000
    made = Problem.build(b.graph, machine([1, 1]), Table(), training=False, workspace=lambda op, d: spaces[op.name])
    assert made.transient_bytes == 111 * FLOAT + 1000


def test_the_state_of_an_optimizer_stays_with_its_parameter() -> None:
    graph = perceptron((8, 4))
    assert state_bytes(graph, training=True, optimizer={"w1": 5}) == {"w0": 16 * FLOAT, "w1": 8 * FLOAT + 5}
    made = Problem.build(graph, machine([1000]), Table(), training=True, optimizer={"w1": 5})
    plain = Problem.build(graph, machine([1000]), Table(), training=True)
    assert made.state_bytes["w1"] == plain.state_bytes["w1"] + 5
    assert made.op_bytes["layer1"] == plain.op_bytes["layer1"] + 5
    assert sum(made.resident(dict.fromkeys(made.ops, "d0")).values()) == 5 + sum(
        plain.resident(dict.fromkeys(made.ops, "d0")).values()
    )


def test_what_memory_is_called() -> None:
    b = Builder()
    x, w, mean = b.input("x", 2), b.parameter("w", 2), b.buffer("mean", 2)
    y, saved = b.add_op(x, w, mean, name="y"), b.add_op(x, name="kept")
    b.returns(y)
    b.graph.outputs.append(Output(saved, "saved"))
    kinds = memory_kinds(b.graph, b.graph)
    assert kinds == {"w": "parameters", "mean": "parameters", "x": "caller", "y": "caller", "kept": "activations"}
    late = Builder()
    kept, tangent = late.add("kept", "saved", 4), late.add("t", "tangent", 4)
    late.gradient(w, late.add_op(kept, tangent, name="gw"))
    late.graph.outputs.append(Output(late.add_op(tangent, name="gx"), "gradient", "x"))
    assert memory_kinds(late.graph, b.graph) == {
        "t": "caller",
        "gw": "gradients",
        "gw.sum": "gradients",
        "gx": "caller",
        "kept": "activations",
    }


@given(st.data(), st.booleans())
def test_one_segment_never_needs_more_than_resident_and_transient(data: st.DataObject, training: bool) -> None:
    graph = data.draw(training_graphs() if training else graphs())
    made = problem(graph, machine([2**30]), training=training)
    placement = dict.fromkeys(made.ops, "d0")
    program = lower(graph, placement, made.devices, made.owners(placement))
    assert peak_memory(program)["d0"] <= made.resident(placement)["d0"] + made.transient_bytes


@given(problems())
def test_resident_bytes_are_the_same_in_sum_wherever_ops_are(made: Problem) -> None:
    everywhere = {op: made.devices[i % len(made.devices)] for i, op in enumerate(made.ops)}
    somewhere = dict.fromkeys(made.ops, made.devices[-1])
    assert sum(made.resident(everywhere).values()) == sum(made.resident(somewhere).values())
