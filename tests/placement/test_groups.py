from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, graphs
from torchplace.compiler.graph import Graph
from torchplace.placement.groups import Groups, colocation_groups, together_groups


def written() -> Graph:
    """`reader` and `write` share a buffer; `other` does not."""
    b = Builder()
    count = b.buffer("count", 4)
    more = b.add_op(b.input("x", 4), count, name="reader")
    b.returns(b.add_op(more, name="other"))
    b.update(count, more, name="write")
    return b.graph


def test_what_writes_state_is_with_its_first_user() -> None:
    assert colocation_groups(written()) == (("reader", "write"), ("other",))
    assert together_groups(written(), []) == (("reader",), ("other",), ("write",))


def test_sets_are_joined_with_the_groups_that_they_touch() -> None:
    assert colocation_groups(written(), [["other", "write"]]) == (("reader", "other", "write"),)
    assert colocation_groups(chain(5), [["v3", "v1"], ["v4", "v0"], ["v1", "v4"]]) == (
        ("v0", "v1", "v3", "v4"),
        ("v2",),
    )


@given(graphs(), st.data())
def test_groups_are_the_closure_of_what_must_stay_together(graph: Graph, data: st.DataObject) -> None:
    names = [op.name for op in graph.ops]
    some = st.lists(st.sampled_from(names), max_size=3) if names else st.just([])
    sets = data.draw(st.lists(some, max_size=3))
    found = colocation_groups(graph, sets)
    assert sorted(op for group in found for op in group) == sorted(names)
    assert all(list(group) == [n for n in names if n in group] for group in found)
    assert [group[0] for group in found] == [n for n in names if n in {group[0] for group in found}]
    assert set(map(frozenset, found)) == _closure(colocation_groups(graph), sets)


def _closure(groups: Groups, sets: list[list[str]]) -> set[frozenset[str]]:
    """Joins any two that overlap, until none do."""
    parts = [set(group) for group in groups]
    for joined in sets:
        touched = [part for part in parts if not part.isdisjoint(joined)]
        parts = [part for part in parts if part.isdisjoint(joined)] + ([set().union(*touched)] if touched else [])
    return set(map(frozenset, parts))
