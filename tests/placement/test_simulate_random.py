"""What holds of the timelines of all programs: nothing is lost, nobody does two things at a time, nothing is too fast."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import placed
from tests.placement.graphs import Table
from tests.placement.written import Asking, device
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Instruction, Run, Send, Update
from torchplace.compiler.lifetimes import peak_memory
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Program
from torchplace.placement.cost.communication import AlphaBeta
from torchplace.placement.simulate import simulate
from torchplace.placement.topology import CoRun, Link, Switch, Topology, both_ways


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
