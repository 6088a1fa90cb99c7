from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, graphs
from tests.placement.graphs import perceptron
from torchplace.compiler.graph import Graph
from torchplace.errors import InfeasibleError
from torchplace.placement.follow import follow
from torchplace.placement.hints import Wishes, read_hints

DEVICES = ("d0", "d1", "d2")


@given(graphs(), st.data())
def test_every_op_is_placed_and_state_draws_its_users(graph: Graph, data: st.DataObject) -> None:
    state = [v.name for v in graph.inputs if v.kind in ("parameter", "buffer")]
    owners = data.draw(st.dictionaries(st.sampled_from(state), st.sampled_from(DEVICES)))
    placed = follow(graph, owners, DEVICES)
    assert list(placed) == [op.name for op in graph.ops]
    for op in graph.ops:
        owned = [v for v in op.inputs if v.name in owners]
        if any(name in owners for name in op.mutates):
            assert placed[op.name] == owners[op.mutates[0]], "state is written where it lives"
        elif owned:
            most = max(v.nbytes for v in owned)
            assert placed[op.name] in {owners[v.name] for v in owned if v.nbytes == most}
    assert set(placed.values()) <= {*owners.values(), "d0"}
    assert follow(graph, dict(sorted(owners.items(), reverse=True)), DEVICES) == placed


@given(graphs())
def test_without_owners_all_is_on_the_default(graph: Graph) -> None:
    assert set(follow(graph, {}, ("d2", "d0")).values()) <= {"d2"}


def test_a_chain_follows_its_parameters() -> None:
    placed = follow(chain(4), {"w1": "d1", "w3": "d2"}, DEVICES)
    assert placed == {"v0": "d1", "v1": "d1", "v2": "d1", "v3": "d2"}


def test_the_backward_pass_follows_too() -> None:
    placed = follow(perceptron((8, 4, 2)), {"w0": "d0", "w1": "d1", "w2": "d1"}, DEVICES)
    assert {n: d for n, d in placed.items() if n.startswith(("layer", "back"))} == {
        "layer0": "d0", "layer1": "d1", "layer2": "d1", "back2": "d1", "back1": "d1",
    }  # fmt: skip


def test_what_comes_before_any_state_goes_to_its_first_user() -> None:
    b = Builder()
    early = b.add_op(b.input("x", 4), name="early")
    b.returns(b.add_op(early, b.parameter("w", 4), name="user"), b.add_op(b.input("y", 4), name="free"))
    assert follow(b.graph, {"w": "d1"}, DEVICES) == {"early": "d1", "user": "d1", "free": "d0"}


def test_a_write_is_with_its_buffer_though_it_takes_something_larger() -> None:
    b = Builder()
    small, large = b.buffer("small", 1), b.parameter("large", 100)
    b.update(small, large, name="write")
    assert follow(b.graph, {"small": "d1", "large": "d2"}, DEVICES) == {"write": "d1"}


def hinted(graph: Graph, owners: dict[str, str], **wishes: Any) -> dict[str, str]:
    return follow(graph, owners, DEVICES, read_hints(graph, DEVICES, Wishes(**{"pins": {}, **wishes}), partial=True))


def test_hints_hold_whatever_is_near() -> None:
    owners = {"w0": "d0", "w1": "d1", "w2": "d1", "w3": "d2"}
    plain = {"v0": "d0", "v1": "d1", "v2": "d1", "v3": "d2"}
    assert hinted(chain(4), owners, pins={"v1": "d2", "gone": "d0"}) == {**plain, "v1": "d2"}
    assert hinted(chain(4), owners, together=[["v1", "v3", "gone"]]) == {**plain, "v3": "d1"}
    assert hinted(chain(4), owners, forbid={"v1": ["d1"]}) == {**plain, "v1": "d0"}, "where its other input is"
    assert hinted(chain(4), owners, forbid={"v1": ["d1", "d0"]}) == {**plain, "v1": "d2"}, "the one that is left"
    assert hinted(chain(2), {}, forbid={"*": ["d0"]}) == {"v0": "d1", "v1": "d1"}
    marked = chain(4)
    marked.op("v2").hint = "d0"
    assert hinted(marked, owners) == {**plain, "v2": "d0"}


def test_hints_cannot_move_state() -> None:
    b = Builder()
    mean = b.buffer("mean", 4)
    new = b.add_op(b.input("x", 4), mean, name="new")
    b.update(mean, new, name="write")
    assert hinted(b.graph, {"mean": "d1"}, together=[["new", "write"]]) == {"new": "d1", "write": "d1"}
    for wishes, named in (
        ({"pins": {"write": "d0"}}, "pin 'write': 'd0'"),
        ({"forbid": {"write": ["d1"]}}, "forbid 'write': 'd1'"),
        ({"pins": {"new": "d0"}, "together": [["*"]]}, "pin 'new': 'd0'"),
    ):
        with pytest.raises(InfeasibleError, match=r"state 'mean' \(on 'd1' already\) ") as error:
            hinted(b.graph, {"mean": "d1"}, **wishes)
        assert named in str(error.value)


@given(graphs(), st.data())
def test_hints_hold_in_any_graph(graph: Graph, data: st.DataObject) -> None:
    """On three devices, of which one is forbidden: something is left for all ops but those that write elsewhere."""
    ops = [op.name for op in graph.ops if not op.mutates]
    if not ops:
        return
    few = st.lists(st.sampled_from(ops), min_size=1, max_size=3, unique=True)
    together, forbidden = data.draw(few), data.draw(few)
    owners = {v.name: data.draw(st.sampled_from(DEVICES)) for v in graph.inputs if v.kind in ("parameter", "buffer")}
    placed = hinted(graph, owners, together=[together], forbid={op: ["d1"] for op in forbidden})
    assert len({placed[op] for op in together}) == 1
    assert all(placed[op] != "d1" for op in forbidden)
    for op in graph.ops:
        assert all(placed[op.name] == owners[name] for name in op.mutates)
