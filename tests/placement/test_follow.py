from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, graphs
from tests.placement.graphs import perceptron
from torchplace.compiler.graph import Graph
from torchplace.placement.follow import follow

DEVICES = ("d0", "d1", "d2")


@given(graphs(), st.data())
def test_every_op_is_placed_and_state_draws_its_users(graph: Graph, data: st.DataObject) -> None:
    state = [v.name for v in graph.inputs if v.kind in ("parameter", "buffer")]
    owners = data.draw(st.dictionaries(st.sampled_from(state), st.sampled_from(DEVICES)))
    placed = follow(graph, owners, "d0")
    assert list(placed) == [op.name for op in graph.ops]
    for op in graph.ops:
        owned = [v for v in op.inputs if v.name in owners]
        if any(name in owners for name in op.mutates):
            assert placed[op.name] == owners[op.mutates[0]], "state is written where it lives"
        elif owned:
            most = max(v.nbytes for v in owned)
            assert placed[op.name] in {owners[v.name] for v in owned if v.nbytes == most}
    assert set(placed.values()) <= {*owners.values(), "d0"}
    assert follow(graph, dict(sorted(owners.items(), reverse=True)), "d0") == placed


@given(graphs())
def test_without_owners_all_is_on_the_default(graph: Graph) -> None:
    assert set(follow(graph, {}, "d2").values()) <= {"d2"}


def test_a_chain_follows_its_parameters() -> None:
    placed = follow(chain(4), {"w1": "d1", "w3": "d2"}, "d0")
    assert placed == {"v0": "d1", "v1": "d1", "v2": "d1", "v3": "d2"}


def test_the_backward_pass_follows_too() -> None:
    placed = follow(perceptron((8, 4, 2)), {"w0": "d0", "w1": "d1", "w2": "d1"}, "d0")
    assert {n: d for n, d in placed.items() if n.startswith(("layer", "back"))} == {
        "layer0": "d0", "layer1": "d1", "layer2": "d1", "back2": "d1", "back1": "d1",
    }  # fmt: skip


def test_what_comes_before_any_state_goes_to_its_first_user() -> None:
    b = Builder()
    early = b.add_op(b.input("x", 4), name="early")
    b.returns(b.add_op(early, b.parameter("w", 4), name="user"), b.add_op(b.input("y", 4), name="free"))
    assert follow(b.graph, {"w": "d1"}, "d0") == {"early": "d1", "user": "d1", "free": "d0"}


def test_a_write_is_with_its_buffer_though_it_takes_something_larger() -> None:
    b = Builder()
    small, large = b.buffer("small", 1), b.parameter("large", 100)
    b.update(small, large, name="write")
    assert follow(b.graph, {"small": "d1", "large": "d2"}, "d0") == {"write": "d1"}
