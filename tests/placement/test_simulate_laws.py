"""What no program can do in the simulator, on machines and programs that nobody thought of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.graphs import DEVICES, placed
from tests.placement.test_simulate_exactly import Asking, Move, bytes_on_links, moves, networks, traffic
from tests.placement.written import ops, program, star
from torchplace.compiler.instructions import Reduce, Run, Send, Update
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Program
from torchplace.placement.flows import Flow, Flows, Wire
from torchplace.placement.simulate import simulate
from torchplace.placement.topology import Link, Topology

slowness = st.lists(st.sampled_from([0.25, 1.0, 1.5, 4.0]), min_size=4, max_size=4)


def slowed(topology: Topology, factors: list[float]) -> Topology:
    """With devices that take so many times as long (`Table` reads it off the launch overhead)."""
    devices = zip(topology.devices, factors, strict=True)
    return replace(topology, devices=tuple(replace(d, launch_overhead=f) for d, f in devices))


@settings(deadline=None)
@given(placed(), networks(), slowness, st.data())
def test_no_faster_than_all_devices_together(
    case: tuple, topology: Topology, factors: list[float], data: st.DataObject
) -> None:
    """Seconds of work on a device of speed 1, over the sum of all speeds: a perfect split without a wait."""
    graph, _, placement, owners = case
    cost = Asking({op.name: data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])) for op in graph.ops})
    machine = slowed(topology, factors)
    timeline = simulate(lower(graph, placement, DEVICES, owners), graph, machine, cost)
    work = sum(cost.times[op.name] for op in graph.ops)
    assert timeline.duration >= work / sum(1 / f for f in factors) - 1e-9


@settings(deadline=None)
@given(moves, networks())
def test_a_device_does_one_thing_at_a_time_in_traffic_too(given_moves: list[Move], topology: Topology) -> None:
    made, graph, cost = traffic(given_moves)
    timeline = simulate(made, graph, topology, cost)
    for device in made.devices:
        busy = [(e.start, e.end) for e in timeline.of(device) if isinstance(e.instruction, (Run, Update, Reduce))]
        assert all(start <= end for start, end in busy)
        assert all(end <= start for (_, end), (start, _) in pairwise(busy))


class Meter:
    """Writes down the rate of each flow, from when on."""

    def __init__(self) -> None:
        self.rates: list[tuple[float, Flow, float]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        real_set, real_stop = Flows._set_rate, Flows.stop

        def set_rate(flows: Flows, now: float, flow: Flow, rate: float) -> None:
            self.rates.append((now, flow, rate))
            real_set(flows, now, flow, rate)

        def stop(flows: Flows, now: float, flow: Flow) -> None:
            self.rates.append((now, flow, 0.0))
            real_stop(flows, now, flow)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Flows, "_set_rate", set_rate)
            patch.setattr(Flows, "stop", stop)
            yield

    def loads(self) -> Iterator[tuple[Wire, float]]:
        """What each wire carries between any two changes (bytes/s)."""
        now: dict[Flow, float] = {}
        at_once: dict[float, list[tuple[Flow, float]]] = defaultdict(list)
        for time, flow, rate in self.rates:
            at_once[time].append((flow, rate))
        for _, changes in sorted(at_once.items(), key=lambda item: item[0]):
            now.update(changes)
            carried: Counter[Wire] = Counter()
            for flow, rate in now.items():
                for wire, times in flow.wires:
                    carried[wire] += rate * times  # type: ignore[assignment]
            yield from carried.items()

    def moved(self) -> dict[Flow, float]:
        """The integral of each flow's rate: bytes."""
        total: dict[Flow, float] = {}
        last: dict[Flow, tuple[float, float]] = {}
        for time, flow, rate in self.rates:
            since, before = last.get(flow, (time, 0.0))
            total[flow] = total.get(flow, 0.0) + before * (time - since)
            last[flow] = time, rate
        assert all(rate == 0.0 for _, rate in last.values()), "all flows have come to rest"
        return total


@settings(deadline=None)
@given(moves, networks(coruns=False))
def test_no_link_ever_carries_more_than_it_can(given_moves: list[Move], topology: Topology) -> None:
    made, graph, cost = traffic(given_moves)
    meter = Meter()
    with meter.watching():
        simulate(made, graph, topology, cost)
    assert all(carried <= wire.capacity * (1 + 1e-9) for wire, carried in meter.loads())


def sent(made: Program) -> dict[tuple[str, str], int]:
    """Bytes from device to device."""
    totals: Counter[tuple[str, str]] = Counter()
    for here, instruction in made:
        if isinstance(instruction, Send):
            totals[here, instruction.to] += made.values[instruction.value].nbytes
    return dict(+totals)


@settings(deadline=None)
@given(moves, networks(coruns=False))
def test_what_flows_is_what_is_sent(given_moves: list[Move], topology: Topology) -> None:
    """Rates, integrated over time, are the bytes of each pair of devices and of each link; so is what events say.

    Links are without pieces here: with them, what flows is work that takes as long as the bytes.
    """
    topology = replace(topology, links=tuple(replace(k, pieces=()) for k in topology.links))
    made, graph, cost = traffic([move for move in given_moves if move[0] != "reduce"])
    meter = Meter()
    with meter.watching():
        timeline = simulate(made, graph, topology, cost)
    moved = meter.moved()
    assert sorted(moved.values()) == pytest.approx(sorted(sent(made).values()), rel=1e-9, abs=1e-6)
    over: Counter[Wire] = Counter()
    for flow, nbytes in moved.items():
        for wire, times in flow.wires:
            over[wire] += nbytes * times  # type: ignore[assignment]
    expected = {name: nbytes for name, nbytes in bytes_on_links(made, topology).items() if nbytes}
    assert sorted(over.values()) == pytest.approx(sorted(expected.values()), rel=1e-9, abs=1e-6)
    assert {name: nbytes for name, nbytes in timeline.link_bytes.items() if nbytes} == expected


def _sped_up(link: Link, times: float) -> Link:
    pieces = tuple(replace(p, bandwidth=p.bandwidth * times, latency=p.latency / times) for p in link.pieces)
    return replace(link, bandwidth=link.bandwidth * times, latency=link.latency / times, pieces=pieces)


@settings(deadline=None)
@given(moves, networks(coruns=False), st.sampled_from([2.0, 4.0]))
def test_a_machine_that_is_faster_in_all_is_faster_by_as_much(
    given_moves: list[Move], topology: Topology, times: float
) -> None:
    """Twice the bandwidth, half of each latency and of each op: half the time, contention or not."""
    made, graph, cost = traffic(given_moves)
    faster = slowed(replace(topology, links=tuple(_sped_up(k, times) for k in topology.links)), [1 / times] * 4)
    before, after = simulate(made, graph, topology, cost), simulate(made, graph, faster, cost)
    assert after.duration == pytest.approx(before.duration / times, rel=1e-9)


def test_with_contention_more_bandwidth_may_slow_a_program() -> None:
    """Why the law above holds without contention only.

    b's 8 bytes for d leave at 0, and take 8 s alone. c first needs 2 bytes from a. Over a link of 0.2 bytes/s it has
    them at 10, when b's have passed; over one of 2 bytes/s at 1, and from then on both share what leads to d.
    """
    graph, cost = ops(use=5.0)
    steps = {
        "a": ["send %x to c"],
        "b": ["send %y to d"],
        "c": ["recv %x from a", "send %x to d"],
        "d": ["recv %y from b", "run use (%y) -> %z", "recv %x from c"],
    }
    made = program("abcd", {"x": 2, "y": 8, "z": 1}, {"x": "a", "y": "b"}, steps)

    def duration(bandwidth: float) -> float:
        wider = {"a->hub": bandwidth, "hub->c": 2.0}
        around = star("abcd", latency=0.0)
        links = tuple(replace(k, bandwidth=wider.get(k.name, k.bandwidth)) for k in around.links)
        return simulate(made, graph, replace(around, links=links), cost).duration

    assert duration(0.2) == pytest.approx(13.0)
    assert duration(2.0) == pytest.approx(15.0)
