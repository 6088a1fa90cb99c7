"""How long simulating takes: programs of 10,000 to 1,000,000 instructions, and the exponent that fits their times.

    python -m benchmarks.simulator [--sizes 10000,100000,1000000] [--only pipeline,random] [--json]

- `pipeline`: GPipe on the eight devices of a DGX-1, forward and backward; the size is made up by micro-batches.
- `random`: ops on random devices of a DGX-1. Each takes one to three of the last 1,024 values, and what is made is sent
  to its users at once: transfers all over the hybrid cube mesh, and over PCIe.
- `cluster`: the same on 16 DGX H100 (128 devices), of the last 16,384 values and with larger ones: some hundred
  transfers are under way at any time, and most of them cross the network.

Programs are checked by `verify` and simulated as in planning; making them is not counted. The goal is 1,000,000
instructions in less than 60 s, and an exponent near 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter

from benchmarks._fit import exponent
from torchplace.compiler.graph import Graph, Op
from torchplace.compiler.instructions import Instruction, Recv, Run, Send
from torchplace.compiler.lifetimes import insert_frees
from torchplace.compiler.program import Exit, Program, Segment, Slot
from torchplace.compiler.verify import verify
from torchplace.placement.simulate import simulate
from torchplace.placement.topology import Device, Topology

Made = tuple[Program, Graph, Topology]


class Cost:
    """Every op takes as long as its name's number says: 0.1 to 2 ms."""

    name = "benchmark"

    def time(self, op: Op, device: Device) -> float:
        """Seconds."""
        return (1 + int(op.name[1:]) * 7919 % 20) * 1e-4

    def demand(self, op: Op, device: Device) -> float:
        """One."""
        return 1.0


class Writer:
    """Writes a program, one op after the other, in an order in which they can run."""

    def __init__(self, name: str, topology: Topology) -> None:
        self.program = Program(name, topology.device_names)
        self.graph = Graph(name)
        self.lists: dict[str, list[Instruction]] = {d: [] for d in topology.device_names}
        self.program.instructions = self.lists

    def op(self, device: str) -> str:
        """A segment of one op, which is not run yet; returns its name."""
        name = f"s{len(self.graph.ops)}"
        self.graph.ops.append(Op(name, "aten.add.Tensor"))
        self.program.segments[name] = Segment(name, device, (name,))
        return name

    def send(self, value: str, source: str, target: str, microbatch: int = 0) -> None:
        """A transfer."""
        self.lists[source].append(Send(value, target, microbatch))
        self.lists[target].append(Recv(value, source, microbatch))


def pipeline(size: int) -> Made:
    """GPipe on a DGX-1; about 74 instructions a micro-batch."""
    topology = Topology.preset("dgx1-v100")
    writer, devices = Writer("pipeline", topology), topology.device_names
    stages = [(d, writer.op(d), writer.op(d)) for d in devices]
    writer.program.values = {f"{kind}{i}": Slot(8 << 20) for kind in "hg" for i in range(len(devices) + 1)}
    microbatches = size // 74
    for k in range(microbatches):
        for i, (device, forward, _) in enumerate(stages):
            taken = (f"h{i}",) if i else ()
            writer.lists[device].append(Run(forward, taken, (f"h{i + 1}",), k))
            if i + 1 < len(devices):
                writer.send(f"h{i + 1}", device, devices[i + 1], k)
    for k in range(microbatches):
        for i, (device, _, backward) in reversed(list(enumerate(stages))):
            saved = (f"h{i}",) if i else ()
            taken = (*saved, f"g{i + 1}") if i + 1 < len(devices) else (*saved, f"h{i + 1}")
            writer.lists[device].append(Run(backward, taken, (f"g{i}",), k))
            if i:
                writer.send(f"g{i}", device, devices[i - 1], k)
    insert_frees(writer.program)
    return writer.program, writer.graph, topology


def scattered(name: str, topology: Topology, ops: int, window: int, largest: float) -> Made:
    """Ops on random devices, each of which takes some of the last values; what is made is sent to its users at once."""
    chance, writer = random.Random(0), Writer(name, topology)
    where = [chance.choice(topology.device_names) for _ in range(ops)]
    taken = [[chance.randrange(max(0, i - window), i) for _ in range(chance.randint(1, 3)) if i] for i in range(ops)]
    users: list[dict[str, None]] = [{} for _ in range(ops)]
    for i, values in enumerate(taken):
        for j in values:
            users[j][where[i]] = None
    for i, device in enumerate(where):
        values = tuple(f"v{j}" for j in dict.fromkeys(taken[i]))
        writer.program.values[f"v{i}"] = Slot(int(10 ** chance.uniform(3, largest)))
        writer.lists[device].append(Run(writer.op(device), values, (f"v{i}",)))
        for user in users[i]:
            if user != device:
                writer.send(f"v{i}", device, user)
    writer.program.outputs = (Exit(f"v{ops - 1}", where[-1]),)
    insert_frees(writer.program)
    return writer.program, writer.graph, topology


def on_dgx1(size: int) -> Made:
    """About 6.6 instructions an op."""
    return scattered("random", Topology.preset("dgx1-v100"), round(size / 6.62), 1_024, 7.7)


def on_cluster(size: int) -> Made:
    """About 7.9 instructions an op."""
    return scattered("cluster", Topology.preset("dgx-h100*16@ndr400"), round(size / 7.89), 16_384, 8.3)


CASES: dict[str, Callable[[int], Made]] = {"pipeline": pipeline, "random": on_dgx1, "cluster": on_cluster}


@dataclass
class Result:
    """One simulation: instructions, transfers, seconds that it took, and those that it predicted."""

    case: str
    instructions: int
    transfers: int
    seconds: float
    predicted: float


def measure(case: str, size: int) -> Result:
    """Make a program of about that size, and simulate it."""
    program, graph, topology = CASES[case](size)
    verify(program)
    count = sum(len(i) for i in program.instructions.values())
    gc.collect()
    begun = perf_counter()
    timeline = simulate(program, graph, topology, Cost())
    seconds = perf_counter() - begun
    sent = sum(isinstance(e.instruction, Send) for e in timeline.events)
    return Result(case, count, sent, seconds, timeline.duration)


def growth(results: Sequence[Result]) -> float:
    """The exponent that fits the times."""
    return exponent([r.instructions for r in results], [r.seconds for r in results])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,30000,100000,300000,1000000")
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, list[Result]] = {}
    for case in options.only.split(","):
        found[case] = []
        for size in map(int, options.sizes.split(",")):
            result = measure(case, size)
            found[case].append(result)
            if not options.json:
                print(
                    f"{case:9} {result.instructions:9,} instructions, {result.transfers:8,} transfers: "
                    f"{result.seconds:7.2f} s  ({result.seconds / result.instructions * 1e6:5.1f} us each)",
                    flush=True,
                )
        if not options.json:
            print(f"{case:9} seconds grow with instructions to the power {growth(found[case]):.2f}")
    if options.json:
        data = {c: {"exponent": growth(r), "results": [asdict(x) for x in r]} for c, r in found.items()}
        print(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()
