"""Random published instances, and their optima by brute force."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from torchplace.placement.maxload.check import faults, is_contiguous, max_load
from torchplace.placement.maxload.instance import Edge, Instance, Node

TIMES = (0.0, 0.5, 1.0, 2.0, 3.5, 7.0)


@st.composite
def instances(draw: st.DrawFn, most: int = 6) -> Instance:
    """A few nodes, some of the backward pass, some coloured, some that no accelerator runs; one to three devices."""
    count = draw(st.integers(1, most))
    forward = draw(st.integers(1, count))
    times = st.sampled_from(TIMES)
    nodes = [
        Node(
            id=10 + i,
            supportedOnFpga=draw(st.integers(0, 9)) > 0,
            cpuLatency=3 * draw(times),
            fpgaLatency=draw(times),
            isBackwardNode=i >= forward,
            colorClass=draw(st.sampled_from([None, None, None, 1, 2])),
            size=draw(st.sampled_from([0.0, 1.0, 4.0])),
        )
        for i in range(count)
    ]
    pairs = [(a, b) for a, b in itertools.combinations(range(count), 2) if draw(st.integers(0, 2)) == 0]
    cost = {a: draw(times) for a, _ in pairs}
    edges = [Edge(sourceId=10 + a, destId=10 + b, cost=cost[a]) for a, b in pairs]
    accelerators, cpus = draw(st.sampled_from([(1, 0), (2, 0), (2, 1), (1, 1), (3, 0)]))
    return Instance("random", nodes, edges, accelerators, cpus, draw(st.sampled_from([6.0, 100.0])))


def splits(instance: Instance) -> list[dict[str, str]]:
    """Every split that keeps colours together, feasible or not."""
    problem = instance.problem
    every = itertools.product(range(len(problem.devices)), repeat=problem.count)
    return [instance.split(np.array(placed)) for placed in every]


def optimum(instance: Instance, *, contiguous: bool = False) -> float:
    """The least largest load of all feasible splits; infinite where there is none."""
    return min(
        (
            max_load(instance, split)
            for split in splits(instance)
            if not any(faults(instance, split)) and (not contiguous or is_contiguous(instance, split))
        ),
        default=float("inf"),
    )


def chain(count: int, *, cost: float = 1.0, accelerators: int = 2) -> dict[str, Any]:
    """A chain of equal nodes, as a file has it."""
    return {
        "maxSizePerFPGA": 100.0,
        "maxFPGAs": accelerators,
        "maxCPUs": 0,
        "nodes": [
            {"id": i, "supportedOnFpga": 1, "cpuLatency": 9, "fpgaLatency": 2, "isBackwardNode": 0, "size": 1}
            for i in range(count)
        ],
        "edges": [{"sourceId": i, "destId": i + 1, "cost": cost} for i in range(count - 1)],
    }


def write(path: Path, data: dict[str, Any]) -> Path:
    """Write a file."""
    path.write_text(json.dumps(data))
    return path
