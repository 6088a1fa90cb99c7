from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, graphs
from tests.placement.graphs import FLOAT, machine, perceptron, problem, problems, training_graphs
from torchplace.compiler.lifetimes import peak_memory
from torchplace.compiler.lower import lower
from torchplace.compiler.passes.phases import assign_phases
from torchplace.placement.memory import saved_bytes, state_bytes, transient_bytes
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


@given(st.data(), st.booleans())
def test_one_segment_never_needs_more_than_resident_and_transient(data: st.DataObject, training: bool) -> None:
    graph = data.draw(training_graphs() if training else graphs())
    assume(not any(op.mutates for op in graph.ops))  # an update ends a segment, which holds its inputs to its end
    made = problem(graph, machine([2**30]), training=training)
    placement = dict.fromkeys(made.ops, "d0")
    program = lower(graph, placement, made.devices, made.owners(placement))
    assert peak_memory(program)["d0"] <= made.resident(placement)["d0"] + made.transient_bytes


@given(problems())
def test_resident_bytes_are_the_same_in_sum_wherever_ops_are(made: Problem) -> None:
    everywhere = {op: made.devices[i % len(made.devices)] for i, op in enumerate(made.ops)}
    somewhere = dict.fromkeys(made.ops, made.devices[-1])
    assert sum(made.resident(everywhere).values()) == sum(made.resident(somewhere).values())
