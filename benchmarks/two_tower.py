"""Independent branches on two CPU devices run at the same time: how near to this machine's limit?

    python -m benchmarks.two_tower [--rounds 11] [--json]

A model of two towers (6 blocks of Linear 768 -> 3072 -> 768, GELU and LayerNorm; 256 rows), joined at the end, on
two CPU devices with one intra-op thread each. The limit of the machine is measured in the same run: two
independent processes, each with one tower and one thread, at the same time. Prints both speed-ups over eager on
one thread, and the share of the limit that is reached; the goal is 0.85.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
from multiprocessing.connection import Connection

import torch
from torch import nn

import torchplace as tp
from benchmarks._timing import interleaved, median

WIDTH, HIDDEN, BLOCKS, ROWS = 768, 3072, 6, 256


def tower(seed: int) -> nn.Sequential:
    """One tower."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for _ in range(BLOCKS):
        layers += [nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH), nn.LayerNorm(WIDTH)]
    return nn.Sequential(*layers)


class TwoTower(nn.Module):
    """Two towers, whose results are added."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = tower(0), tower(1)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Both towers: [rows, width] each -> [rows, width]."""
        return self.left(left) + self.right(right)


def step(model: nn.Module, *inputs: torch.Tensor, training: bool) -> None:
    """One call, with its backward when training."""
    with torch.set_grad_enabled(training):
        result = model(*inputs)
    if training:
        result.mean().backward()
        model.zero_grad(set_to_none=True)


def half(connection: Connection, seed: int) -> None:
    """A process with one tower: does a step whenever it is told to, and says when it is done."""
    torch.set_num_threads(1)
    model, rows = tower(seed), torch.randn(ROWS, WIDTH)
    while (training := connection.recv()) is not None:
        step(model, rows, training=training)
        connection.send(True)


class Halves:
    """Two independent processes, each with half of the work."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connections, self.processes = [], []
        for seed in (0, 1):
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=half, args=(theirs, seed), daemon=True))
            self.connections.append(ours)
            self.processes[-1].start()

    def step(self, training: bool) -> None:
        """Both do a step at the same time."""
        for connection in self.connections:
            connection.send(training)
        for connection in self.connections:
            connection.recv()

    def close(self) -> None:
        """End the processes."""
        for connection, process in zip(self.connections, self.processes, strict=True):
            connection.send(None)
            process.join()


def measure(rounds: int, training: bool, halves: Halves) -> dict[str, object]:
    """Eager on one thread, torchplace on two devices and the machine's limit, in turn."""
    model, inputs = TwoTower(), [torch.randn(ROWS, WIDTH) for _ in range(2)]
    placed = tp.compile(copy.deepcopy(model), topology=tp.Topology.local(2, threads=1))
    times = interleaved(
        {
            "eager": lambda: step(model, *inputs, training=training),
            "torchplace": lambda: step(placed, *inputs, training=training),
            "limit": lambda: halves.step(training),
        },
        rounds,
    )
    eager, ours, limit = (median(times[name]) for name in ("eager", "torchplace", "limit"))
    return {
        "what": "forward and backward" if training else "forward",
        "speedup": eager / ours,
        "limit": eager / limit,
        "share_of_limit": limit / ours,
        "ops": tp.plans(placed)[0].ops_on,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    halves = Halves()
    results = [measure(options.rounds, training, halves) for training in (False, True)]
    halves.close()
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for r in results:
        print(
            f"{r['what']:22} two devices {r['speedup']:.2f}x of one, two processes {r['limit']:.2f}x:"
            f" {r['share_of_limit']:.2f} of the machine's limit; ops {r['ops']}"
        )


if __name__ == "__main__":
    main()
