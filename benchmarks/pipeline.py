"""Training steps through a pipeline on this machine: torchplace, its peer, one thread, and what the machine can do.

    python -m benchmarks.pipeline [--rounds 7] [--models gpt-192,unet] [--cost fitted] [--out-of-the-box] [--json]

A step is forward, loss and backward of several micro-batches; its gradients are dropped. Side by side, in turn, with
one thread for each CPU device, process or rank:

- eager, micro-batch by micro-batch;
- torch.distributed.pipelining on two ranks over gloo, with each of its schedules that runs; the model, written as a
  chain of layers, is cut into stages by the measured times of these;
- torchplace, on two local devices, and on two ranks over gloo;
- two independent processes that do half of eager's micro-batches each: the limit of the machine (each has
  all parameters and gradients; what has half of them in each place may do with less memory traffic, and be above 1);
- and torchplace on one device, beside eager.

torchplace calibrates this machine anew for each model, for machines drift; unless `TORCHPLACE_CACHE` says where it is
to find what was measured before.

Each is one process or two of its own, which live through all rounds. Before anything is timed, all must give eager's
loss, and those that have all gradients, their norm. All processes get the same allocator settings (those that
torchplace makes for itself), and two that compute together a core each; `--out-of-the-box`, each runs as it comes.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks._pipeline_eager import Eager
from benchmarks._pipeline_peer import SCHEDULES, Peer
from benchmarks._pipeline_placed import Placed
from benchmarks._pipeline_problems import CASES, Case
from benchmarks._pipeline_result import ALONE, EAGER, LIMIT, PEER, PLACED, RANKS, Result
from benchmarks._pipeline_team import Checked, Maker, Team, TeamError, environment
from benchmarks._pipeline_text import lines
from benchmarks._timing import interleaved
from torchplace.runtime.pricing import COSTS

TOLERANCE = 1e-4
"""Relative, of losses and of norms of gradients."""


@dataclass(frozen=True)
class Contestant:
    """Who takes part.

    Attributes:
        name: of it.
        make: makes the worker of each process.
        size: number of processes.
        whole: its gradients are those of the whole step, each in one place.
    """

    name: str
    make: Maker
    size: int = 1
    whole: bool = True


def contestants(schedules: Sequence[str], cost: str = "auto") -> Iterator[Contestant]:
    """All, in the order in which they take turns; eager is the first: the others are held against it."""
    yield Contestant(EAGER, Eager)
    for schedule in schedules:
        yield Contestant(PEER + schedule, functools.partial(Peer, schedule=schedule), size=2)
    yield Contestant(PLACED, functools.partial(Placed, cost=cost))
    yield Contestant(RANKS, functools.partial(Placed, cost=cost), size=2)
    yield Contestant(LIMIT, Eager, size=2, whole=False)
    yield Contestant(ALONE, functools.partial(Placed, devices=1, cost=cost))


def contest(case: Case, rounds: int, schedules: Sequence[str], cost: str = "auto", tuned: bool = True) -> Result:
    """All contestants on one model, in turn.

    Args:
        case: the model.
        rounds: that are timed.
        schedules: of the peer.
        cost: torchplace's source of compute costs.
        tuned: the same settings for all.

    Raises:
        TeamError: eager failed, or another did after it had shown that it can.
    """
    with torch.device("meta"):
        problem = case.build()
    chosen = list(contestants(schedules if problem.layers else (), cost))
    cannot = {} if problem.layers else {PEER.strip(): problem.unchained}
    with ExitStack() as stack:
        if "TORCHPLACE_CACHE" not in os.environ:
            cache = stack.enter_context(tempfile.TemporaryDirectory())
            stack.enter_context(environment({"TORCHPLACE_CACHE": cache}))
        teams = _teams(chosen, case, tuned, cannot, stack)
        paces: dict[str, list[float]] = {name: [] for name in teams}
        steps = {name: team.step for name, team in teams.items()}
        times = interleaved(steps, rounds, before=lambda name: paces[name].append(teams[name].pace()))
        facts = {name: team.facts() for name, team in teams.items()}
    parameters = sum(p.numel() for p in problem.model.parameters())
    return Result(case.name, case.microbatches, parameters, tuned, times, cannot, facts, paces)


def _teams(
    chosen: Sequence[Contestant], case: Case, tuned: bool, cannot: dict[str, str], stack: ExitStack
) -> dict[str, Team]:
    """Of all that can; made one by one: while they get ready they measure, and would disturb each other."""
    teams: dict[str, Team] = {}
    expected: Checked | None = None
    for who in chosen:
        try:
            team = Team(who.make, case, who.size, tuned)
            stack.callback(team.close)
            found = team.check()
            agree(found, expected or found, who.whole)
        except TeamError as error:
            if who.name == EAGER:
                raise
            cannot[who.name] = str(error)
        else:
            teams[who.name], expected = team, expected or found
    return teams


def agree(found: Checked, expected: Checked, whole: bool = True) -> None:
    """Check that the same was computed.

    Raises:
        TeamError: another loss, or, where they are `whole`, other gradients.
    """
    pairs = {"loss": (found.loss, expected.loss)}
    if whole:
        pairs["norm of gradients"] = math.sqrt(found.squares), math.sqrt(expected.squares)
    for what, (ours, eager) in pairs.items():
        if not math.isclose(ours, eager, rel_tol=TOLERANCE):
            raise TeamError(f"its {what} is {ours:.6g}, that of eager {eager:.6g}")


def _listed(parser: argparse.ArgumentParser, option: str, given: str, known: Sequence[str]) -> list[str]:
    names = [name for name in given.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"{option} {unknown[0]}: expected {', '.join(known)}")
    return names


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--microbatches", type=int, default=8)
    parser.add_argument("--models", default=",".join(CASES), help="of " + ", ".join(CASES))
    parser.add_argument("--schedules", default=",".join(SCHEDULES), help="of the peer: " + ", ".join(SCHEDULES))
    parser.add_argument("--cost", default="auto", choices=COSTS, help="what torchplace's plans and predictions rest on")
    parser.add_argument("--out-of-the-box", action="store_true", help="no settings that are the same for all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.models = _listed(parser, "--models", options.models, list(CASES))
    options.schedules = _listed(parser, "--schedules", options.schedules, list(SCHEDULES))
    return options


def main() -> None:
    """Measure and print."""
    options, results = _options(), []
    for name in options.models:
        case = replace(CASES[name], microbatches=options.microbatches)
        results.append(contest(case, options.rounds, options.schedules, options.cost, not options.out_of_the_box))
        if not options.json:
            print("\n".join(lines(results[-1])), flush=True)
    if options.json:
        print(json.dumps([result.data() for result in results], indent=1))


if __name__ == "__main__":
    main()
