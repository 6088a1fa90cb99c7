from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, placements
from tests.placement.graphs import machine, problem, problems, training_graphs
from torchplace.compiler.graph import STATE, Graph
from torchplace.compiler.instructions import Update
from torchplace.compiler.lower import entry_devices, lower
from torchplace.placement.groups import colocation_groups
from torchplace.placement.owners import owner_ops, owners
from torchplace.placement.problem import Problem


def shared() -> Graph:
    b = Builder()
    x, tied, unused = b.input("x", 4), b.parameter("tied", 4), b.buffer("unused", 4)
    first = b.add_op(x, tied, name="first")
    assert unused.kind == "buffer"
    return b.returns(b.add_op(first, tied, name="last"))


def test_the_first_user_owns() -> None:
    assert owner_ops(shared()) == {"tied": "first", "unused": None}
    assert owners(shared(), {"first": "d1", "last": "d0"}, "d0") == {"tied": "d1", "unused": "d0"}


def test_state_that_lives_somewhere_stays() -> None:
    assert owners(shared(), {"first": "d1", "last": "d0"}, "d0", {"tied": "d2"})["tied"] == "d2"


@given(st.data())
def test_owners_are_where_lowering_would_put_state_by_itself(data: st.DataObject) -> None:
    graph = data.draw(training_graphs())
    placement = data.draw(placements(graph, ("d0", "d1", "d2")))
    entry = entry_devices(graph, placement, {}, "d0")
    assert owners(graph, placement, "d0") == {v.name: entry[v.name] for v in graph.inputs if v.kind in STATE}


def test_the_first_user_of_state_stays_with_those_that_write_it() -> None:
    b = Builder()
    x, mean, other = b.input("x", 4), b.buffer("mean", 4), b.buffer("other", 4)
    b.add_op(x, x, name="apart")
    new = b.add_op(x, mean, name="reader")
    b.add_op(new, mean, name="later")
    b.update(mean, new, name="writer")
    b.update(other, new, name="alone")
    assert colocation_groups(b.graph) == (("apart",), ("reader", "writer"), ("later",), ("alone",))


def test_a_chain_of_shared_state_is_one_group() -> None:
    b = Builder()
    one, two = b.buffer("one", 4), b.buffer("two", 4)
    b.many("aten.foo.default", one, two, shapes=[], name="both", mutates=("one", "two"))
    b.update(one, two, name="first")
    b.update(two, one, name="second")
    assert colocation_groups(b.graph) == (("both", "first", "second"),)


def test_who_writes_through_a_view_stays_with_the_memory() -> None:
    b = Builder()
    state = b.buffer("state", 4)
    part = b.view(state, name="part")
    b.many("aten.add_.Tensor", part, 1, shapes=[], name="write", mutates=("part",))
    assert colocation_groups(b.graph) == (("part", "write"),)


def test_who_writes_what_an_op_made_stays_with_it() -> None:
    b = Builder()
    made = b.add_op(b.input("x", 4), name="made")
    b.add_op(made, name="reader")
    b.many("aten.add_.Tensor", made, 1, shapes=[], name="write", mutates=("made",))
    assert colocation_groups(b.graph) == (("made", "write"), ("reader",))


@given(problems())
def test_every_op_is_in_one_group(made: Problem) -> None:
    assert sorted(op for group in made.groups for op in group) == sorted(made.ops)
    first = [made.ops.index(group[0]) for group in made.groups]
    assert first == sorted(first)


@given(st.data())
def test_lowering_moves_no_op_whose_group_is_together(data: st.DataObject) -> None:
    graph = data.draw(training_graphs())
    made = problem(graph, machine([2**30] * 3), training=True)
    where = {group: data.draw(st.sampled_from(made.devices)) for group in made.groups}
    placement = {op: device for group, device in where.items() for op in group}
    program = lower(graph, placement, made.devices, made.owners(placement))
    ran = {op: segment.device for segment in program.segments.values() for op in segment.ops}
    updates = {(device, i.state) for device, i in program if isinstance(i, Update)}
    for op in graph.ops:
        if op.name in ran:
            assert ran[op.name] == placement[op.name]
        else:
            assert (placement[op.name], op.mutates[0]) in updates
