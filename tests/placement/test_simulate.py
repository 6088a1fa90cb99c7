from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, placed
from tests.placement.graphs import Table
from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Instruction, Run, Send, Update
from torchplace.compiler.lifetimes import peak_memory
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Exit, Program
from torchplace.errors import ProgramError
from torchplace.placement.cost.communication import AlphaBeta
from torchplace.placement.simulate import simulate
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology import CoRun, Device, Host, Link, Switch, Topology, both_ways

COST = Table()


def device(name: str, slowness: float = 1.0, kind: str = "toy") -> Device:
    return Device(name, kind, 1 << 30, {"float32": 1.0}, 1.0, slowness, threads=1)


def line(names: str, bandwidth: float = 1.0, latency: float = 0.5) -> Topology:
    """Devices of one letter each, every pair joined by links of its own."""
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    links = [link for a, b in pairs for link in both_ways(a, b, "wire", bandwidth, latency)]
    return Topology("line", tuple(map(device, names)), (), tuple(links))


def star(names: str, bandwidth: float = 1.0, latency: float = 0.5) -> Topology:
    links = [link for n in names for link in both_ways(n, "hub", "wire", bandwidth, latency)]
    return Topology("star", tuple(map(device, names)), (Switch("hub", "switch"),), tuple(links))


def program(devices: str, values: dict[str, int], inputs: dict[str, str], lists: dict[str, list[str]]) -> Program:
    """A program whose segment `s` of a device is the one op `s`."""
    lines = [f'program "toy" on {", ".join(devices)}']
    lines += [f"value %{n}: {size} bytes" for n, size in values.items()]
    lines += [f"input %{n} on {d}" for n, d in inputs.items()]
    runs = {s.split()[1]: d for d, steps in lists.items() for s in steps if s.startswith("run ")}
    lines += [f"segment {name} on {d} peak 0: {name}" for name, d in runs.items()]
    for d, steps in lists.items():
        lines += [f"{d}:", *(f"  {s}" for s in steps)]
    return Program.parse("\n".join(lines))


def ops(**seconds: float) -> tuple[Graph, Table]:
    """A graph with an op for each name, and what they cost."""
    b = Builder()
    x = b.input("x", 1)
    for name in seconds:
        b.add_op(x, name=name)
    return b.graph, Table(seconds)


def times(timeline: Timeline) -> list[tuple[str, str, float, float]]:
    return [(e.device, str(e.instruction), e.start, e.end) for e in timeline.events]


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


def hosted(topology: Topology, **seconds: float) -> Topology:
    return replace(topology, host=Host(**seconds))


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


@dataclass(frozen=True)
class Asking(Table):
    """Every op asks for as many cores as its device has threads."""

    def demand(self, op: Op, device: Device) -> float:
        return float(device.threads or 2)


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


def on_star(case: tuple, coruns: bool = False) -> tuple[Graph, Program, Topology, Table]:
    graph, devices, placement, owners = case
    links = tuple(k for n in devices for k in both_ways(n, "hub", "wire", 8.0, 0.25))
    slower = tuple(device(n, i + 1) for i, n in enumerate(devices))
    groups = (CoRun("cores", devices, 2.0, (1.0, 1.0, 1.25), 0.5),) if coruns else ()
    topology = Topology("star", slower, (Switch("hub", "switch"),), links, groups)
    cost = Asking({op.name: float(i % 4) for i, op in enumerate(graph.ops)})
    delays = AlphaBeta(topology)
    made = lower(
        graph,
        placement,
        devices,
        owners,
        lambda op, d: cost.time(op, topology.device(d)),
        lambda v, s, t: delays.time(s, t, v.nbytes),
    )
    return graph, made, topology, cost


@given(placed())
def test_every_instruction_that_takes_time_is_on_the_timeline_once(case: tuple) -> None:
    graph, made, topology, cost = on_star(case)
    timeline = simulate(made, graph, topology, cost)
    wanted = [(d, i) for d, i in made if isinstance(i, (Run, Send, Update))]
    assert sorted(map(str, wanted)) == sorted(str((e.device, e.instruction)) for e in timeline.events)
    assert timeline.events == sorted(timeline.events, key=lambda e: e.start)
    assert timeline.peak_memory == peak_memory(made)


@given(placed(), st.booleans())
def test_devices_and_channels_do_one_thing_at_a_time(case: tuple, coruns: bool) -> None:
    graph, made, topology, cost = on_star(case, coruns)
    timeline = simulate(made, graph, topology, cost)
    for name in made.devices:
        mine = [e for e in timeline.of(name) if not isinstance(e.instruction, Send)]
        assert all(one.end <= other.start for one, other in itertools.pairwise(mine))
        assert [e.instruction for e in mine] == [i for i in made.instructions[name] if isinstance(i, (Run, Update))]
        for there in made.devices:
            sent = [e for e in timeline.of(name) if isinstance(e.instruction, Send) and e.instruction.to == there]
            spans = [(e.start, e.end - topology.route(name, there).latency) for e in sent]
            assert all(one[1] <= other[0] + 1e-9 for one, other in itertools.pairwise(spans))
            assert [e.instruction for e in sent] == [
                i for i in made.instructions[name] if isinstance(i, Send) and i.to == there
            ]


@given(placed())
def test_links_carry_no_more_than_they_can(case: tuple) -> None:
    """Between any two ends of transfers, what has begun and ended in between fits into the time."""
    graph, made, topology, cost = on_star(case)
    timeline = simulate(made, graph, topology, cost)
    for link in topology.links:
        over = [(e.start, e.end - 0.5, e.nbytes) for e in timeline.events if link.name in e.route]
        for begin, end in itertools.product({s for s, *_ in over}, {e for _, e, _ in over}):
            inside = sum(nbytes for s, e, nbytes in over if begin <= s and e <= end)
            assert inside <= link.bandwidth * max(0.0, end - begin) + 1e-6


@given(placed())
def test_nothing_starts_before_what_it_takes_is_there(case: tuple) -> None:
    graph, made, topology, cost = on_star(case)
    timeline = simulate(made, graph, topology, cost)
    there = {(e.device, n): 0.0 for n, e in made.inputs.items()}
    for e in timeline.events:
        if isinstance(e.instruction, Run):
            there.update({(e.device, n): e.end for n in e.instruction.outputs})
        elif isinstance(e.instruction, Send):
            there[e.instruction.to, e.instruction.value] = e.end
    for e in timeline.events:
        assert all(there[e.device, name] <= e.start for name in _taken(e.instruction))


def _taken(instruction: Instruction) -> tuple[str, ...]:
    if isinstance(instruction, Run):
        return instruction.inputs
    return (instruction.value,) if isinstance(instruction, (Send, Update)) else ()


@given(placed(), st.booleans())
def test_no_faster_than_the_busiest_device_and_the_critical_path(case: tuple, coruns: bool) -> None:
    graph, made, topology, cost = on_star(case, coruns)
    timeline = simulate(made, graph, topology, cost)
    assert timeline.duration >= max(timeline.busy(d) for d in made.devices) - 1e-9
    assert timeline.duration >= _critical_path(graph, made, topology, cost) - 1e-9


def _critical_path(graph: Graph, made: Program, topology: Topology, cost: Table) -> float:
    """Longest chain of ops on the devices that they were put on, and of transfers that have the links to themselves."""
    where = {op: s.device for s in made.segments.values() for op in s.ops}
    finish: dict[str, float] = {}
    start_at = {n: e.device for n, e in made.inputs.items()}
    for op in graph.ops:
        here = where.get(op.name) or made.inputs[op.mutates[0]].device
        begin = 0.0
        for value in op.inputs:
            there = start_at[value.name]
            way = topology.route(there, here).time(value.nbytes) if there != here else 0.0
            begin = max(begin, finish.get(value.name, 0.0) + way)
        for value in op.outputs:
            finish[value.name], start_at[value.name] = begin + cost.time(op, topology.device(here)), here
    return max(finish.values(), default=0.0)


@given(placed())
def test_bytes_on_links_are_the_bytes_sent(case: tuple) -> None:
    graph, made, topology, cost = on_star(case)
    timeline = simulate(made, graph, topology, cost)
    expected: dict[str, int] = {}
    for here, i in made:
        if isinstance(i, Send):
            for link in topology.route(here, i.to).links:
                expected[link.name] = expected.get(link.name, 0) + graph.values[i.value].nbytes
    assert timeline.link_bytes == expected


def meshed(case: tuple, bandwidths: list[float]) -> tuple[Graph, Program, Topology, Table]:
    """Every pair of devices has a link of its own each way, so that no two channels meet."""
    graph, devices, placement, owners = case
    pairs = [(a, b) for a in devices for b in devices if a != b]
    links = tuple(Link(*pair, "wire", bandwidths[i % len(bandwidths)], 0.25) for i, pair in enumerate(pairs))
    topology = Topology("mesh", tuple(map(device, devices)), (), links)
    cost = Table({op.name: float(i % 4) for i, op in enumerate(graph.ops)})
    return graph, lower(graph, placement, devices, owners), topology, cost


speeds = st.sampled_from([0.5, 1.0, 8.0, 64.0])


@given(placed(), st.lists(speeds, min_size=1, max_size=5), st.integers(0, 11), st.sampled_from([1.5, 2.0, 100.0]))
def test_without_contention_more_bandwidth_slows_nothing(
    case: tuple, bandwidths: list[float], which: int, times: float
) -> None:
    graph, made, topology, cost = meshed(case, bandwidths)
    links = [replace(k, bandwidth=k.bandwidth * times) if i == which else k for i, k in enumerate(topology.links)]
    faster = replace(topology, links=tuple(links))
    before, after = simulate(made, graph, topology, cost), simulate(made, graph, faster, cost)
    ends = {(e.device, e.instruction): e.end for e in before.events}
    assert all(e.end <= ends[e.device, e.instruction] + 1e-9 for e in after.events)
    assert after.duration <= before.duration + 1e-9


@given(placed())
def test_transfers_that_meet_nobody_take_what_the_route_says(case: tuple) -> None:
    graph, made, topology, cost = meshed(case, [4.0, 1.0, 3.0])
    for e in simulate(made, graph, topology, cost).events:
        if isinstance(e.instruction, Send):
            assert e.end - e.start == pytest.approx(topology.route(e.device, e.instruction.to).time(e.nbytes))


@given(placed(), st.integers(2, 3))
def test_the_same_program_gives_the_same_timeline(case: tuple, times: int) -> None:
    graph, made, topology, cost = on_star(case)
    first = simulate(made, graph, topology, cost)
    for _ in range(times):
        again = simulate(Program.parse(str(made)), graph, topology, cost)
        assert (again.events, again.peak_memory) == (first.events, first.peak_memory)


def test_one_device_takes_the_sum_of_its_ops() -> None:
    graph = chain(5)
    made = lower(graph, dict.fromkeys((op.name for op in graph.ops), "a"), ("a",))
    assert simulate(made, graph, line("a"), COST).duration == 5.0
