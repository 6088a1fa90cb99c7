"""The simulator against the oracle, on programs that nobody thought of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.graphs import DEVICES, placed
from tests.placement.graphs import Table
from tests.placement.oracle import run_exactly
from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Free, Instruction, Recv, Reduce, Run, Send
from torchplace.compiler.lower import lower
from torchplace.compiler.program import Program, Segment, Slot
from torchplace.compiler.verify import verify
from torchplace.placement.simulate import simulate
from torchplace.placement.topology import CoRun, Device, Link, Piece, Switch, Topology


@dataclass(frozen=True)
class Asking(Table):
    """A table of times and of demands."""

    demands: Mapping[str, float] | None = None

    def demand(self, op: Op, device: Device) -> float:
        return (self.demands or {}).get(op.name, 1.0)


@st.composite
def pieces(draw: st.DrawFn) -> tuple[Piece, ...]:
    """Faster and slower than the link, earlier and later than it; times may even fall with the size."""
    starts = sorted(draw(st.sets(st.sampled_from([0, 1, 5, 12, 20, 60]), max_size=3)))
    found = []
    for start in starts:
        bandwidth = float(draw(st.sampled_from([1, 2, 5, 128])))
        latency = draw(st.sampled_from([0.0, 0.5, 3.0, -1.0, -8.0]))
        found.append(Piece(start, max(latency, -start / bandwidth), bandwidth))
    return tuple(found)


@st.composite
def networks(draw: st.DrawFn, coruns: bool = True) -> Topology:
    """Four devices at the leaves of a tree of switches; every direction of every link as fast as it likes."""
    switches = [Switch(f"s{i}", "switch") for i in range(draw(st.integers(1, 4)))]
    ends = [(f"s{i}", f"s{draw(st.integers(0, i - 1))}") for i in range(1, len(switches))]
    ends += [(d, draw(st.sampled_from(switches)).name) for d in DEVICES]
    links = [
        Link(
            *way,
            "wire",
            float(draw(st.sampled_from([1, 2, 3, 8, 64]))),
            draw(st.sampled_from([0.0, 0.25, 2.0])),
            draw(st.just(()) | pieces()),
        )
        for pair in ends
        for way in (pair, pair[::-1])
    ]
    devices = tuple(Device(d, "toy", 1 << 30, {"float32": 1.0}, 1.0, 1.0) for d in DEVICES)
    groups = []
    if coruns and draw(st.booleans()):
        capacity, slowdown = draw(st.sampled_from([None, 1.0, 2.5])), draw(st.sampled_from([(1.0,), (1.0, 1.5, 1.25)]))
        groups = [CoRun("cores", DEVICES[: draw(st.integers(2, 4))], capacity, slowdown)]
    return Topology("net", devices, tuple(switches), tuple(links), tuple(groups))


def bytes_on_links(made: Program, topology: Topology) -> dict[str, int]:
    """What a program sends, and in its collectives, over each link that it uses."""
    totals: Counter[str] = Counter()
    for here, i in made:
        if isinstance(i, Send):
            there, nbytes = i.to, made.values[i.value].nbytes
        elif isinstance(i, Reduce):
            n = len(i.group)
            there, nbytes = i.group[(i.group.index(here) + 1) % n], round(2 * (n - 1) * made.values[i.value].nbytes / n)
        else:
            continue
        for link in topology.route(here, there).links:
            totals[link.name] += nbytes
    return dict(totals)


def compare(made: Program, graph: Graph, topology: Topology, cost: Asking) -> None:
    timeline = simulate(made, graph, topology, cost)
    assert timeline.link_bytes == bytes_on_links(made, topology)
    device, ops = topology.devices[0], {op.name: op for op in graph.ops}
    seconds = {s.name: sum(Fraction(cost.time(ops[o], device)) for o in s.ops) for s in made.segments.values()}
    demands = {}
    for s in made.segments.values():
        asked = sum(Fraction(cost.time(ops[o], device)) * Fraction(cost.demand(ops[o], device)) for o in s.ops)
        demands[s.name] = asked / seconds[s.name] if seconds[s.name] else Fraction(1)
    for op in graph.ops:
        for state in op.mutates:
            seconds[f"update {state}"] = Fraction(cost.time(op, device))
            demands[f"update {state}"] = Fraction(cost.demand(op, device))
    expected = sorted(
        (d, i, float(start), float(end)) for d, i, start, end in run_exactly(made, topology, seconds, demands)
    )
    found = sorted((e.device, str(e.instruction), e.start, e.end) for e in timeline.events)
    assert [(d, i) for d, i, *_ in found] == [(d, i) for d, i, *_ in expected]
    for (d, i, *times), (*_, start, end) in zip(found, expected, strict=True):
        assert times == pytest.approx([start, end], rel=1e-9, abs=1e-9), (d, i)


@settings(deadline=None)
@given(placed(), networks(), st.data())
def test_lowered_programs(case: tuple, topology: Topology, data: st.DataObject) -> None:
    graph, _, placement, owners = case
    times = {op.name: data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])) for op in graph.ops}
    demands = {op.name: data.draw(st.sampled_from([1.0, 1.5, 4.0])) for op in graph.ops}
    compare(lower(graph, placement, DEVICES, owners), graph, topology, Asking(times, demands=demands))


Move = tuple[str, int, int, int]
"""What happens in a program of traffic: kind, and three numbers that choose who, whom and how much."""

SIZES = (0, 1, 7, 12, 60, 61)


def traffic(moves: list[Move]) -> tuple[Program, Graph, Asking]:
    """A program in which devices compute, send and reduce; what is sent is used some moves later, or at the end."""
    made, graph = Program("traffic", DEVICES), Graph("traffic")
    made.instructions = lists = {d: list[Instruction]() for d in DEVICES}
    due: dict[str, list[Instruction]] = {d: [] for d in DEVICES}
    for n, (kind, i, j, k) in enumerate(moves):
        here, there = DEVICES[i % 4], DEVICES[(i + 1 + j % 3) % 4]
        made.values[f"v{n}"] = Slot(SIZES[k % 6])
        if kind == "send":
            lists[here] += [_make(made, graph, n, here), Send(f"v{n}", there), Free(f"v{n}")]
            lists[there].append(Recv(f"v{n}", here))
            due[there].append(Free(f"v{n}"))
        elif kind == "wait":
            lists[here] += due[here]
            due[here] = []
        else:
            group = tuple(DEVICES[(i + m * (1 if j % 2 else 3)) % 4] for m in range(1 + k % 4))
            for d in group:
                lists[d] += [_make(made, graph, n, d), Reduce(f"v{n}", "sum", group), Free(f"v{n}")]
    for d in DEVICES:
        lists[d] += due[d]
    return made, graph, Asking({op.name: [0.0, 0.0, 1.0, 4.5][n % 4] for n, op in enumerate(graph.ops)})


def _make(made: Program, graph: Graph, n: int, device: str) -> Run:
    name = f"s{n}_{device}"
    graph.ops.append(Op(name, "aten.add.Tensor", ()))
    made.segments[name] = Segment(name, device, (name,))
    return Run(name, (), (f"v{n}",))


moves = st.lists(
    st.tuples(st.sampled_from(["send", "send", "send", "wait", "reduce"]), *[st.integers(0, 11)] * 3), max_size=24
)


@settings(deadline=None)
@given(moves, networks())
def test_traffic(moves: list[Move], topology: Topology) -> None:
    made, graph, cost = traffic(moves)
    verify(made)
    compare(made, graph, topology, cost)


STAR = Topology(
    "star",
    tuple(Device(d, "toy", 1 << 30, {"float32": 1.0}, 1.0, 1.0) for d in DEVICES),
    (Switch("hub", "switch"),),
    tuple(Link(*way, "wire", 8.0, 0.25) for d in DEVICES for way in ((d, "hub"), ("hub", d))),
)


@pytest.mark.parametrize("late", range(1, 40))
def test_a_transfer_may_come_into_a_collective_at_any_time(late: int) -> None:
    """The ring of three passes as one until a fourth device sends into it."""
    made, graph, _ = traffic([("reduce", 0, 1, 2), ("send", 3, 0, 4), ("reduce", 0, 1, 2)])
    assert next(i.group for _, i in made if isinstance(i, Reduce)) == DEVICES[:3]
    cost = Asking({"s1_gpu:3": late / 8}, default=0.0)
    compare(made, graph, STAR, cost)


@given(
    networks(coruns=False), st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(0, 40)), max_size=6)
)
def test_transfers_come_into_a_collective(topology: Topology, sends: list[tuple[int, int, int]]) -> None:
    """The fourth device sends, every now and then, to the three that reduce."""
    made, graph, _ = traffic([("reduce", 0, 1, 2), *(("send", 3, j, k) for j, k, _ in sends), ("reduce", 0, 0, 2)])
    cost = Asking({f"s{n}_gpu:3": wait / 4 for n, (*_, wait) in enumerate(sends, start=1)}, default=0.0)
    compare(made, graph, topology, cost)
