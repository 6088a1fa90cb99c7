from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain, placed
from tests.placement.graphs import Table
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Instruction, Run, Send, Update
from torchplace.compiler.lifetimes import peak_memory
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Program
from torchplace.errors import ProgramError
from torchplace.placement.bounds import lower_bound
from torchplace.placement.cost.communication import AlphaBeta
from torchplace.placement.simulate import simulate
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology import Device, Link, Switch, Topology, both_ways

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


def test_a_link_carries_one_transfer_at_a_time_first_come_first_served() -> None:
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
    assert [(e.start, e.end) for e in timeline.events] == [(0.0, 5.0), (4.0, 11.0)]
    assert timeline.link_bytes == {"a->hub": 4, "hub->c": 10, "b->hub": 6}
    apart = simulate(shared, Graph("g"), line("abc"), COST)
    assert [(e.start, e.end) for e in apart.events] == [(0.0, 4.5), (0.0, 6.5)]


def test_links_are_taken_in_the_order_of_time_not_of_waking() -> None:
    """a forwards what it gets from b at 4; c wants the same link at 2 and must not wait for that."""
    graph, cost = ops(f=2.0)
    steps = {
        "a": ["recv %x from b", "send %x to d"],
        "b": ["send %x to a"],
        "c": ["run f () -> %y", "send %y to d"],
        "d": ["recv %y from c", "recv %x from a"],
    }
    topology = star("abcd", latency=0.0)
    timeline = simulate(program("abcd", {"x": 4, "y": 1}, {"x": "b"}, steps), graph, topology, cost)
    assert [t for t in times(timeline) if t[1].endswith("to d")] == [
        ("c", "send %y to d", 2.0, 3.0),
        ("a", "send %x to d", 4.0, 8.0),
    ]


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


def test_collectives_are_refused() -> None:
    steps = {"a": ["reduce %x by sum over a, b"]}
    with pytest.raises(ProgramError, match="collectives are not simulated yet"):
        simulate(program("ab", {"x": 4}, {"x": "a"}, steps), Graph("g"), line("ab"), COST)


def cpus(count: int, threads: int | None) -> Topology:
    devices = [Device(f"cpu:{i}", "cpu", 1 << 30, {"float32": 1.0}, 1.0, 1.0, threads=threads) for i in range(count)]
    links = [k for i in range(1, count) for k in both_ways("cpu:0", f"cpu:{i}", "memory", 1e9, 0.0)]
    links += [k for i in range(1, count) for j in range(1, i) for k in both_ways(f"cpu:{j}", f"cpu:{i}", "m", 1e9, 0.0)]
    return Topology("local", tuple(devices), (), tuple(links))


def test_cpu_devices_do_no_more_work_than_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    b = Builder()
    x = b.input("x", 1)
    b.returns(*(b.add_op(x, name=f"op{i}") for i in range(4)))
    placement = {f"op{i}": f"cpu:{i}" for i in range(4)}
    for threads, expected in ((1, 20.0), (2, 40.0), (None, 40.0), (64, 40.0)):
        topology = cpus(4, threads)
        timeline = simulate(lower(b.graph, placement, topology.device_names), b.graph, topology, Table(default=10.0))
        assert timeline.duration == pytest.approx(expected, rel=1e-6)
    alone = cpus(1, 1)
    one = simulate(lower(b.graph, dict.fromkeys(placement, "cpu:0"), ("cpu:0",)), b.graph, alone, Table(default=10.0))
    assert one.duration == 40.0


def on_star(case: tuple) -> tuple[Graph, Program, Topology, Table]:
    graph, devices, placement, owners = case
    links = tuple(k for n in devices for k in both_ways(n, "hub", "wire", 8.0, 0.25))
    slower = tuple(device(n, i + 1) for i, n in enumerate(devices))
    topology = Topology("star", slower, (Switch("hub", "switch"),), links)
    cost = Table({op.name: float(i % 4) for i, op in enumerate(graph.ops)})
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


@given(placed())
def test_devices_and_links_do_one_thing_at_a_time(case: tuple) -> None:
    graph, made, topology, cost = on_star(case)
    timeline = simulate(made, graph, topology, cost)
    for name in made.devices:
        mine = [e for e in timeline.of(name) if not isinstance(e.instruction, Send)]
        assert all(one.end <= other.start for one, other in itertools.pairwise(mine))
        assert [e.instruction for e in mine] == [i for i in made.instructions[name] if isinstance(i, (Run, Update))]
    for link in {link for e in timeline.events for link in e.route}:
        over = [e for e in timeline.events if link in e.route]
        spans = [(e.start, e.end - topology.route(e.device, e.instruction.to).latency) for e in over]
        assert all(one[1] <= other[0] + 1e-9 for one, other in itertools.pairwise(spans))


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


@given(placed())
def test_no_faster_than_the_busiest_device_the_critical_path_and_the_bound(case: tuple) -> None:
    graph, made, topology, cost = on_star(case)
    timeline = simulate(made, graph, topology, cost)
    assert timeline.duration >= max(timeline.busy(d) for d in made.devices) - 1e-9
    assert timeline.duration >= _critical_path(graph, made, topology, cost) - 1e-9
    assert timeline.duration >= lower_bound(graph, topology, cost) - 1e-9


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
