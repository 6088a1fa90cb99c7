"""Training steps on one CPU device of one thread: eager, `torch.compile`, and torchplace with both of its codegens.

    python -m benchmarks.codegen [--rounds 15] [--models gpt-192,gpt-384,resnet50] [--json]

A step is forward, loss and backward of one micro-batch. Each contestant has a copy of the same model, compiled; all
are in one process and take turns, round after round; what is printed are medians, and ratios of the same round to eager
and to `torch.compile`. Before anything is timed, all must have gradients of eager's norm.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from time import perf_counter

import torch

import torchplace as tp
from benchmarks._pipeline_problems import CASES, Case, Problem
from benchmarks._timing import median, paired_ratio

EAGER, INDUCTOR, PLACED, PLACED_INDUCTOR = "eager", "torch.compile", "torchplace", "torchplace, inductor"
TOLERANCE = 1e-3


def prepared(case: Case, contestant: str) -> Problem:
    """The problem, its model compiled."""
    problem = case.build()
    if contestant == INDUCTOR:
        problem.model.compile()
    elif contestant != EAGER:
        codegen = "inductor" if contestant == PLACED_INDUCTOR else "eager"
        tp.compile(problem.model, topology=tp.Topology.local(1, threads=1), solver="single", codegen=codegen)
    return problem


def step_of(problem: Problem, microbatches: int) -> Callable[[], float]:
    """A step of one micro-batch: returns its seconds."""
    loss = next(problem.microbatches(microbatches))

    def step() -> float:
        problem.model.zero_grad()
        begun = perf_counter()
        loss().backward()  # type: ignore[no-untyped-call]
        return perf_counter() - begun

    return step


def contest(case: Case, rounds: int) -> dict[str, list[float]]:
    """Contestant -> seconds, round by round.

    Raises:
        RuntimeError: a contestant has other gradients than eager.
    """
    problems = {name: prepared(case, name) for name in (EAGER, INDUCTOR, PLACED, PLACED_INDUCTOR)}
    steps = {name: step_of(problem, case.microbatches) for name, problem in problems.items()}
    for name, step in steps.items():
        step()
        found, expected = problems[name].squares(), problems[EAGER].squares()
        if abs(found - expected) > TOLERANCE * expected:
            raise RuntimeError(f"{name}: squares of gradients add up to {found:g}; those of eager to {expected:g}")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(rounds + 2):
        for name, step in steps.items():
            seconds = step()
            if i >= 2:
                times[name].append(seconds)
    return times


def summary(times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Contestant -> milliseconds, and how many times those of eager and of `torch.compile`: medians."""
    return {
        name: {
            "ms": 1e3 * median(mine),
            "to eager": paired_ratio(times, name, EAGER),
            "to torch.compile": paired_ratio(times, name, INDUCTOR),
        }
        for name, mine in times.items()
    }


def main() -> None:
    """Time the steps, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--models", default="gpt-192,gpt-384,resnet50", help=f"of {', '.join(CASES)}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name in options.models.split(","):
        torch.compiler.reset()
        found[name] = summary(contest(CASES[name], options.rounds))
        if not options.json:
            print(name)
            for contestant, row in found[name].items():
                print(f"  {contestant:22}" + "".join(f"{what:>18} {value:8.3f}" for what, value in row.items()))
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
