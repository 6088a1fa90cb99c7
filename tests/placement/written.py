"""Programs that are written out, their machines and their costs: for the tests of what simulates and reports."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.compiler.graphs import Builder
from tests.placement.graphs import Table
from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.program import Program
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology import Device, Host, Switch, Topology, both_ways

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


def hosted(topology: Topology, **seconds: float) -> Topology:
    return replace(topology, host=Host(**seconds))


@dataclass(frozen=True)
class Asking(Table):
    """Every op asks for as many cores as its device has threads."""

    def demand(self, op: Op, device: Device) -> float:
        return float(device.threads or 2)
