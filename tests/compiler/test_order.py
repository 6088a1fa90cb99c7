from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, graphs, placed
from torchplace.compiler.graph import Graph, Op, Value
from torchplace.compiler.order import hazards, list_schedule


def on(graph: Graph, device: str = "a", **elsewhere: str) -> dict[str, str]:
    return dict.fromkeys((op.name for op in graph.ops), device) | elsewhere


def duration(op: Op, device: str) -> float:
    """Some whole number for each op and device; 0 among them."""
    return float((sum(map(ord, op.name)) + sum(map(ord, device))) % 4)


def delay(value: Value, source: str, target: str) -> float:
    return float(value.nbytes % 5)


@given(placed())
def test_starts_respect_dependencies_hazards_and_devices(case: tuple) -> None:
    graph, _, placement, _ = case
    start = list_schedule(graph, placement, duration, delay)
    assert list(start) != [] or not graph.ops
    assert set(start) == {op.name for op in graph.ops}
    end = {op.name: start[op.name] + duration(op, placement[op.name]) for op in graph.ops}
    for op in graph.ops:
        for value in op.inputs:
            if (maker := value.producer) is not None:
                here, there = placement[maker.name], placement[op.name]
                assert start[op.name] >= end[maker.name] + (delay(value, here, there) if here != there else 0)
    for reader, writers in _overwritten(graph):
        assert all(start[w.name] >= end[reader.name] for w in writers)
    for one in graph.ops:
        for other in graph.ops:
            if one is not other and placement[one.name] == placement[other.name]:
                assert end[one.name] <= start[other.name] or end[other.name] <= start[one.name]


def _overwritten(graph: Graph) -> list[tuple[Op, list[Op]]]:
    """Reader of an input, or of a view of it -> later ops that write the input, by brute force."""
    root = {v.name: v for v in graph.values.values()}
    found = []
    for i, op in enumerate(graph.ops):
        read = set()
        for value in op.inputs:
            while value.base is not None:
                value = root[value.base]
            read.add(value.name)
        found.append((op, [w for w in graph.ops[i + 1 :] if read & set(w.mutates)]))
    return [(op, writers) for op, writers in found if writers]


@given(graphs())
def test_hazards(graph: Graph) -> None:
    assert [*hazards(graph).items()] == _overwritten(graph)


@given(placed())
def test_one_device_keeps_program_order(case: tuple) -> None:
    graph, _, _, _ = case
    start = list_schedule(graph, on(graph), duration)
    times = [duration(op, "a") for op in graph.ops]
    assert [start[op.name] for op in graph.ops] == [sum(times[:i]) for i in range(len(times))], "never idle"


@given(placed(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_how_the_placement_is_listed(case: tuple, random: object) -> None:
    graph, _, placement, _ = case
    names = list(placement)
    random.shuffle(names)  # type: ignore[attr-defined]
    shuffled = {name: placement[name] for name in names}
    assert list_schedule(graph, shuffled, duration, delay) == list_schedule(graph, placement, duration, delay)


def test_a_chain_by_hand() -> None:
    graph = chain(3)
    assert list_schedule(graph, on(graph)) == {"v0": 0, "v1": 1, "v2": 2}
    start = list_schedule(graph, on(graph, v1="b"), delay=lambda v, s, t: 10.0)
    assert start == {"v0": 0, "v1": 11, "v2": 22}


def test_a_device_skips_what_is_not_ready() -> None:
    b = Builder()
    x = b.input("x", 4)
    away = b.add_op(x, name="away")
    b.returns(b.add_op(away, name="waits"), b.add_op(x, name="ready"))
    start = list_schedule(b.graph, on(b.graph, away="b"), delay=lambda v, s, t: 0.5)
    assert start == {"away": 0, "ready": 0, "waits": 1.5}


def test_of_ready_ops_the_first_in_the_program_runs() -> None:
    b = Builder()
    x = b.input("x", 4)
    b.returns(*(b.add_op(x) for _ in range(3)))
    assert list_schedule(b.graph, on(b.graph)) == {"v0": 0, "v1": 1, "v2": 2}


def test_views_take_no_time() -> None:
    b = Builder()
    x = b.input("x", 4)
    b.returns(b.add_op(b.view(b.add_op(x))))
    assert list_schedule(b.graph, on(b.graph)) == {"v0": 0, "v1": 1, "v2": 1}


def test_a_write_waits_for_reads_on_other_devices() -> None:
    b = Builder()
    x, mean = b.input("x", 4), b.buffer("mean", 4)
    new = b.add_op(x, name="new")
    late = b.add_op(b.view(mean, name="view"), x, name="read")
    b.update(mean, new, name="write")
    b.returns(late)
    start = list_schedule(b.graph, on(b.graph, read="b"), duration=lambda op, d: 5.0 if op.name == "read" else 1.0)
    assert start["read"] == 1.0, "after view, which goes before new: another device waits for it"
    assert start["write"] == 6.0


def test_what_others_wait_for_comes_first() -> None:
    b = Builder()
    x, w = b.input("x", 4), b.parameter("w", 4)
    stays = b.add_op(x, w, name="weight")
    on_the_way = b.add_op(x, name="on_the_way")
    b.returns(stays, b.add_op(b.add_op(on_the_way, name="goes"), name="there"))
    placement = on(b.graph, there="b")
    start = list_schedule(b.graph, placement, delay=lambda v, s, t: 0.5)
    assert start == {"weight": 2.0, "on_the_way": 0.0, "goes": 1.0, "there": 2.5}
    assert list_schedule(b.graph, on(b.graph))["weight"] == 0.0, "nobody waits: as in the program"


def test_of_those_that_go_first_is_what_is_farthest_from_the_end() -> None:
    b = Builder()
    x = b.input("x", 4)
    near = b.add_op(b.add_op(x, name="near"), name="end")
    far = b.add_op(b.add_op(b.add_op(x, name="far"), name="middle"), name="last")
    b.returns(near, far)
    start = list_schedule(b.graph, on(b.graph, end="b", middle="b", last="b"))
    assert (start["far"], start["near"]) == (0.0, 1.0)


def test_no_ops() -> None:
    assert list_schedule(Graph("empty"), {}) == {}
