"""Programs that are written out take as long as one works out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table
from tests.placement.written import COST, Asking, device, hosted, line, ops, program, star, times
from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Run
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Exit
from torchplace.errors import ProgramError
from torchplace.placement.simulate import simulate
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology import CoRun, Device, Link, Switch, Topology, both_ways


def test_two_devices_and_a_link() -> None:
    graph, cost = ops(f=3.0, g=5.0)
    steps = {"a": ["run f (%x) -> %y", "send %y to b"], "b": ["recv %y from a", "run g (%y) -> %z"]}
    timeline = simulate(program("ab", {"x": 4, "y": 8, "z": 1}, {"x": "a"}, steps), graph, line("ab"), cost)
    assert times(timeline) == [
        ("a", "run f (%x) -> %y", 0.0, 3.0),
        ("a", "send %y to b", 3.0, 11.5),
        ("b", "run g (%y) -> %z", 11.5, 16.5),
    ]
    assert (timeline.duration, timeline.busy("a"), timeline.busy("b")) == (16.5, 3.0, 5.0)
    assert timeline.link_bytes == {"a->b": 8}
    assert timeline.peak_memory == {"a": 12, "b": 9}


def test_slower_devices_take_longer() -> None:
    graph, cost = ops(f=3.0)
    slow = Topology("slow", (device("a", 4.0),))
    alone = program("a", {"x": 4, "y": 8}, {"x": "a"}, {"a": ["run f (%x) -> %y"]})
    assert simulate(alone, graph, slow, cost).duration == 12.0


def test_compute_overlaps_transfers() -> None:
    graph, cost = ops(f=1.0, more=6.0)
    steps = {"a": ["run f () -> %y", "send %y to b", "run more () -> %z"], "b": ["recv %y from a"]}
    timeline = simulate(program("ab", {"y": 8, "z": 1}, {}, steps), graph, line("ab"), cost)
    assert times(timeline)[1:] == [("a", "send %y to b", 1.0, 9.5), ("a", "run more () -> %z", 1.0, 7.0)]
    assert timeline.duration == 9.5, "the program ends when all has arrived"


def test_a_receive_waits_only_when_its_value_is_used() -> None:
    graph, cost = ops(f=10.0, own=4.0, g=1.0)
    steps = {
        "a": ["run f () -> %y", "send %y to b"],
        "b": ["recv %y from a", "run own () -> %o", "run g (%y, %o) -> %z"],
    }
    timeline = simulate(program("ab", {"y": 2, "o": 1, "z": 1}, {}, steps), graph, line("ab"), cost)
    assert [t for t in times(timeline) if t[0] == "b"] == [
        ("b", "run own () -> %o", 0.0, 4.0),
        ("b", "run g (%y, %o) -> %z", 12.5, 13.5),
    ]


def test_transfers_to_one_device_go_one_after_the_other() -> None:
    graph, cost = ops(f=1.0)
    steps = {
        "a": ["send %x to b", "run f () -> %y", "send %y to b"],
        "b": ["recv %x from a", "recv %y from a"],
    }
    timeline = simulate(program("ab", {"x": 10, "y": 4}, {"x": "a"}, steps), graph, line("ab"), cost)
    sends = [t for t in times(timeline) if t[1].startswith("send")]
    assert sends == [("a", "send %x to b", 0.0, 10.5), ("a", "send %y to b", 10.0, 14.5)]


def test_latencies_overlap_where_bandwidth_does_not() -> None:
    steps = {"a": ["send %x to b", "send %y to b"], "b": ["recv %x from a", "recv %y from a"]}
    timeline = simulate(
        program("ab", {"x": 4, "y": 4}, {"x": "a", "y": "a"}, steps), Graph("g"), line("ab", latency=100.0), COST
    )
    assert [(e.start, e.end) for e in timeline.events] == [(0.0, 104.0), (4.0, 108.0)]


def test_directions_are_apart() -> None:
    steps = {"a": ["send %x to b", "recv %y from b"], "b": ["recv %x from a", "send %y to a"]}
    timeline = simulate(program("ab", {"x": 4, "y": 4}, {"x": "a", "y": "b"}, steps), Graph("g"), line("ab"), COST)
    assert [(e.start, e.end) for e in timeline.events] == [(0.0, 4.5), (0.0, 4.5)]


def test_routes_that_share_a_link_share_its_bandwidth() -> None:
    sends = {"a": ["send %x to c"], "b": ["send %y to c"], "c": ["recv %x from a", "recv %y from b"]}
    shared = program("abc", {"x": 4, "y": 6}, {"x": "a", "y": "b"}, sends)
    timeline = simulate(shared, Graph("g"), star("abc"), COST)
    assert [(e.start, e.end) for e in timeline.events] == [(0.0, 9.0), (0.0, 11.0)], "half each till 8"
    assert timeline.link_bytes == {"a->hub": 4, "hub->c": 10, "b->hub": 6}
    apart = simulate(shared, Graph("g"), line("abc"), COST)
    assert [(e.start, e.end) for e in apart.events] == [(0.0, 4.5), (0.0, 6.5)]


def test_a_transfer_that_comes_later_slows_what_is_under_way() -> None:
    """From 2 on, c has the link to d; a forwards at 4 what it gets from b, and both have half of it till 8."""
    graph, cost = ops(f=2.0)
    steps = {
        "a": ["recv %x from b", "send %x to d"],
        "b": ["send %x to a"],
        "c": ["run f () -> %y", "send %y to d"],
        "d": ["recv %y from c", "recv %x from a"],
    }
    timeline = simulate(program("abcd", {"x": 4, "y": 4}, {"x": "b"}, steps), graph, star("abcd", latency=0.0), cost)
    assert [t for t in times(timeline) if t[1].endswith("to d")] == [
        ("c", "send %y to d", 2.0, 8.0),
        ("a", "send %x to d", 4.0, 10.0),
    ]


def test_a_channel_waits_while_others_flow() -> None:
    """The second from a to b begins behind the first, at 8, and shares with what goes to c all the time."""
    steps = {
        "a": ["send %x to b", "send %y to b", "send %z to c"],
        "b": ["recv %x from a", "recv %y from a"],
        "c": ["recv %z from a"],
    }
    values = {"x": 4, "y": 2, "z": 8}
    timeline = simulate(
        program("abc", values, dict.fromkeys(values, "a"), steps), Graph("g"), star("abc", latency=0.0), COST
    )
    assert times(timeline) == [
        ("a", "send %x to b", 0.0, 8.0),
        ("a", "send %z to c", 0.0, 14.0),
        ("a", "send %y to b", 8.0, 12.0),
    ]


def test_what_has_no_bytes_takes_no_place_on_the_links() -> None:
    steps = {
        "a": ["send %x to b", "send %no to b", "send %y to b"],
        "b": ["recv %x from a", "recv %no from a", "recv %y from a"],
    }
    values = {"x": 4, "no": 0, "y": 2}
    timeline = simulate(program("ab", values, dict.fromkeys(values, "a"), steps), Graph("g"), line("ab"), COST)
    assert [(e.start, e.end) for e in timeline.events] == [(0.0, 4.5), (4.0, 4.5), (4.0, 6.5)]


def test_a_value_that_comes_a_second_time_is_waited_for_a_second_time() -> None:
    """The first x is there at 4.5 and is freed; the second leaves at 10."""
    graph, cost = ops(f=10.0, g=1.0, h=1.0)
    steps = {
        "a": ["send %x to b", "free %x", "run f () -> %x", "send %x to b", "free %x"],
        "b": ["recv %x from a", "run g (%x) -> %y", "free %x", "recv %x from a", "run h (%x) -> %z"],
    }
    timeline = simulate(program("ab", {"x": 4, "y": 1, "z": 1}, {"x": "a"}, steps), graph, line("ab"), cost)
    assert [t[2:] for t in times(timeline) if t[0] == "b"] == [(4.5, 5.5), (14.5, 15.5)]


def test_both_copies_of_a_value_may_come_before_the_first_is_used() -> None:
    graph, cost = ops(own=30.0, g=1.0, h=1.0)
    steps = {
        "a": ["send %x to b", "send %x to b"],
        "b": [
            "recv %x from a",
            "run own () -> %o",
            "run g (%x) -> %y",
            "free %x",
            "recv %x from a",
            "run h (%x) -> %z",
        ],
    }
    values = {"x": 4, "y": 1, "z": 1, "o": 1}
    timeline = simulate(program("ab", values, {"x": "a"}, steps), graph, line("ab"), cost)
    assert [t[2:] for t in times(timeline) if t[0] == "b"] == [(0.0, 30.0), (30.0, 31.0), (31.0, 32.0)]


def test_what_is_freed_unused_is_waited_for() -> None:
    """As the runtime does: else it would come when it is gone."""
    graph, cost = ops(f=10.0, g=1.0)
    steps = {"a": ["run f () -> %x", "send %x to b"], "b": ["recv %x from a", "free %x", "run g () -> %y"]}
    timeline = simulate(program("ab", {"x": 4, "y": 1}, {}, steps), graph, line("ab"), cost)
    assert times(timeline)[-1] == ("b", "run g () -> %y", 14.5, 15.5)


def test_narrowest_link_and_sum_of_latencies() -> None:
    links = (Link("a", "hub", "w", 4.0, 1.0), Link("hub", "b", "w", 2.0, 0.25), Link("b", "a", "w", 1.0, 0.0))
    topology = Topology("two", (device("a"), device("b")), (Switch("hub", "switch"),), links)
    steps = {"a": ["send %x to b"], "b": ["recv %x from a"]}
    timeline = simulate(program("ab", {"x": 8}, {"x": "a"}, steps), Graph("g"), topology, COST)
    assert [(e.start, e.end, e.route) for e in timeline.events] == [(0.0, 5.25, ("a->hub", "hub->b"))]


def test_updates_take_their_ops_time() -> None:
    b = Builder()
    mean, new = b.buffer("mean", 1), b.input("new", 1)
    b.update(mean, new, name="write")
    written = lower(b.graph, {"write": "a"}, ("a",))
    timeline = simulate(written, b.graph, line("a"), Table({"write": 3.0}))
    assert times(timeline) == [("a", "update %mean with %new", 0.0, 3.0)]


def test_a_program_that_cannot_end() -> None:
    steps = {"a": ["recv %x from b", "send %x to b"], "b": ["recv %x from a", "send %x to a"]}
    stuck = program("ab", {"x": 4}, {}, steps)
    with pytest.raises(ProgramError, match="'send %x to b' on a waits for ever"):
        simulate(stuck, Graph("g"), line("ab"), COST)


def test_who_never_comes_to_a_collective_keeps_the_others_waiting() -> None:
    steps = {"a": ["reduce %x by sum over a, b"]}
    with pytest.raises(ProgramError, match="'reduce %x by sum over a, b' on a waits for ever"):
        simulate(program("ab", {"x": 4}, {"x": "a"}, steps), Graph("g"), line("ab"), COST)


def test_a_collective_holds_all_from_when_the_last_has_come() -> None:
    """4 bytes: two steps of 2 s and 0.5 s each."""
    graph, cost = ops(f=3.0, g=1.0, h=1.0)
    steps = {
        "a": ["run f () -> %x", "reduce %x by sum over a, b", "run g (%x) -> %y"],
        "b": ["run h () -> %x", "reduce %x by sum over a, b"],
    }
    timeline = simulate(program("ab", {"x": 4, "y": 1}, {}, steps), graph, line("ab"), cost)
    assert times(timeline)[2:] == [
        ("a", "reduce %x by sum over a, b", 3.0, 8.0),
        ("b", "reduce %x by sum over a, b", 3.0, 8.0),
        ("a", "run g (%x) -> %y", 8.0, 9.0),
    ]
    assert timeline.link_bytes == {"a->b": 4, "b->a": 4}


def test_a_collective_waits_for_what_it_reduces() -> None:
    graph, cost = ops(f=3.0)
    steps = {
        "a": ["run f () -> %x", "send %x to b", "reduce %x by sum over a, b"],
        "b": ["recv %x from a", "reduce %x by sum over a, b"],
    }
    timeline = simulate(program("ab", {"x": 4}, {}, steps), graph, line("ab", latency=0.0), cost)
    assert times(timeline)[-1] == ("b", "reduce %x by sum over a, b", 7.0, 11.0)


@pytest.mark.parametrize(("kind", "seconds"), [("toy", 6.25), ("cpu", 4.25)])
def test_adding_up_reads_two_tensors_and_writes_one(kind: str, seconds: float) -> None:
    """On a CPU it takes as long as a copy, which fetches what it writes. A segment's overhead is not paid."""
    steps = {"a": ["accumulate %x into %sum", "accumulate %x into %sum @1"]}
    device = Device("a", kind, 1 << 30, {"float32": 1.0}, 8.0, 0.25)
    topology = hosted(Topology("one", (device,)), instruction=100.0)
    timeline = simulate(program("a", {"x": 16, "sum": 16}, {"x": "a"}, steps), Graph("g"), topology, COST)
    assert [(e.start, e.end) for e in timeline.events] == [(0.0, seconds), (seconds, 2 * seconds)]


def test_the_host_takes_time_for_each_instruction_that_does_something() -> None:
    """A run is longer; a transfer begins later, and its device waits as long, longer still if it wakes its receiver."""
    graph, cost = ops(f=3.0, g=5.0, h=1.0)
    steps = {
        "a": ["run f (%x) -> %y", "send %y to b", "free %x", "run h () -> %u"],
        "b": ["recv %y from a", "run g (%y) -> %z", "free %y"],
    }
    values = {"x": 4, "y": 8, "z": 1, "u": 1}
    timeline = simulate(
        program("ab", values, {"x": "a"}, steps),
        graph,
        hosted(line("ab"), instruction=0.25, send=0.5, wake=0.125, receive=9.0),
        cost,
    )
    assert times(timeline) == [
        ("a", "run f (%x) -> %y", 0.0, 3.25),
        ("a", "send %y to b", 3.875, 12.375),
        ("a", "run h () -> %u", 3.875, 5.125),
        ("b", "run g (%y) -> %z", 12.375, 17.625),
    ]


def test_a_value_that_has_come_is_taken_up() -> None:
    """It came while g ran, at 2 + 8.5 seconds; who waits instead wakes up with the transfer's latency."""
    graph, cost = ops(f=2.0, g=20.0, h=1.0)
    steps = {
        "a": ["run f () -> %y", "send %y to b"],
        "b": ["recv %y from a", "run g () -> %z", "run h (%y) -> %u"],
    }
    values = {"y": 8, "z": 1, "u": 1}
    timeline = simulate(program("ab", values, {}, steps), graph, hosted(line("ab"), receive=0.5), cost)
    assert times(timeline)[-1] == ("b", "run h (%y) -> %u", 20.0, 21.5)


def test_the_host_takes_time_around_a_program() -> None:
    """Half of a call and of its arguments before, half behind: 10 and 2 for each of one input and one output."""
    graph, cost = ops(f=3.0)
    alone = program("a", {"x": 4, "y": 8}, {"x": "a"}, {"a": ["run f (%x) -> %y"]})
    alone.outputs = (Exit("y", "a"),)
    timeline = simulate(alone, graph, hosted(line("ab"), call=10.0, argument=2.0, start=100.0), cost)
    assert [(e.start, e.end) for e in timeline.events] == [(7.0, 10.0)]
    assert timeline.duration == 17.0
    nothing = simulate(program("a", {}, {}, {}), graph, hosted(line("ab"), call=10.0), cost)
    assert nothing.duration == 10.0
    assert Timeline.joined([timeline, nothing, timeline]).duration == 44.0


def test_several_devices_begin_later_than_one() -> None:
    graph, cost = ops(f=3.0)
    steps = {"a": ["run f () -> %y", "send %y to b"], "b": ["recv %y from a"]}
    timeline = simulate(program("ab", {"y": 8}, {}, steps), graph, hosted(line("ab"), start=100.0), cost)
    assert timeline.events[0].start == 100.0


def cpus(count: int, threads: int | None) -> Topology:
    devices = tuple(
        Device(f"cpu:{i}", "cpu", 1 << 30, {"float32": 1.0}, 1.0, 1.0, threads=threads) for i in range(count)
    )
    links = tuple(k for d in devices for k in both_ways(d.name, "memory", "memory", 1e9, 0.0))
    groups = (CoRun("cores", tuple(d.name for d in devices), 2.0),)
    return Topology("local", devices, (Switch("memory", "host-memory"),), links, groups)


@pytest.mark.parametrize(("threads", "expected"), [(1, 20.0), (2, 40.0), (None, 40.0)])
def test_cpu_devices_do_no_more_work_than_the_cores(threads: int | None, expected: float) -> None:
    b = Builder()
    x = b.input("x", 1)
    b.returns(*(b.add_op(x, name=f"op{i}") for i in range(4)))
    topology, owners = cpus(4, threads), {}
    written = lower(b.graph, {f"op{i}": f"cpu:{i}" for i in range(4)}, topology.device_names, owners)
    timeline = simulate(written, b.graph, topology, Asking(default=10.0))
    assert timeline.duration == pytest.approx(expected, rel=1e-6)
    alone = lower(b.graph, {f"op{i}": "cpu:0" for i in range(4)}, topology.device_names, owners)
    assert simulate(alone, b.graph, topology, Asking(default=10.0)).duration == 40.0


def test_two_segments_slow_each_other_as_long_as_both_run() -> None:
    """Half of the speed for both from 2 on: the shorter has its 3 seconds at 8, the longer the last of its 6 at 9."""
    graph, cost = ops(f=6.0, g=2.0, h=3.0)
    steps = {
        "a": ["run f () -> %y"],
        "b": ["recv %z from c", "run h (%z) -> %u"],
        "c": ["run g () -> %z", "send %z to b"],
    }
    topology = replace(line("abc", bandwidth=1e9, latency=0.0), coruns=(CoRun("power", ("a", "b"), None, (1.0, 2.0)),))
    values = {"y": 1, "z": 0, "u": 1}
    timeline = simulate(program("abc", values, {}, steps), graph, topology, Asking(cost.times))
    assert [t for t in times(timeline) if t[1].startswith("run")] == [
        ("a", "run f () -> %y", 0.0, 9.0),
        ("c", "run g () -> %z", 0.0, 2.0),
        ("b", "run h (%z) -> %u", 2.0, 8.0),
    ]


def test_the_demand_of_a_segment_is_the_mean_over_its_time() -> None:
    """Of 4 seconds, 3 ask for one core and 1 for five: 2 cores, of which there are 3; with another's 2, 4 of 3."""

    class Uneven(Table):
        def demand(self, op: Op, device: Device) -> float:
            return 5.0 if op.name == "g" else 1.0

    b = Builder()
    x = b.input("x", 1)
    for name in "fgpq":
        b.add_op(x, name=name)
    b.returns(*(op.outputs[0] for op in b.graph.ops))
    topology = replace(star("ab", 1e9, 0.0), coruns=(CoRun("cores", ("a", "b"), 3.0),))
    cost = Uneven({"f": 3.0, "g": 1.0, "p": 0.0, "q": 6.0})
    placement = {"f": "a", "g": "a", "p": "b", "q": "b"}
    both = lower(b.graph, placement, ("a", "b"), {"x": "a"})
    runs = {e.device: e for e in simulate(both, b.graph, topology, cost).events if isinstance(e.instruction, Run)}
    assert runs["a"].end == pytest.approx(4.0, rel=1e-6), "2 + 1 cores are no more than there are"
    cost.times["q"], cost.times["g"] = 6.0, 3.0  # type: ignore[index]
    runs = {e.device: e for e in simulate(both, b.graph, topology, cost).events if isinstance(e.instruction, Run)}
    assert runs["a"].end == pytest.approx(6.0 * 4 / 3, rel=1e-6), "3 + 1 of 3"


def test_one_device_takes_the_sum_of_its_ops() -> None:
    graph = chain(5)
    made = lower(graph, dict.fromkeys((op.name for op in graph.ops), "a"), ("a",))
    assert simulate(made, graph, line("a"), COST).duration == 5.0
