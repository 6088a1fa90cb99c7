"""How good are the plans? Models x topologies x objectives, every solver with the same time on one core.

    python -m benchmarks.quality [--quick] [--models gpt2 inception] [--topologies big-sur dgx1-v100]
        [--objectives latency throughput training] [--solvers auto heft] [--time-limit 10] [--keep FILE] [--json]

Models of realistic size (`benchmarks/_planned.py`), two of which do not fit on one device, are captured once for
inference and once for training, costed by the roofline, and planned by each solver of the registry in turn, in one
process kept to one core. Nothing is run: values are predicted seconds, of one step (latency; training: forward and
backward) or from step to step in steady state (throughput).

Results are printed as they come. Then a table for each objective: the default's value and its ratios

- to the best of all other solvers (at most 1.01 is the target), which had as much time each;
- to `memory-balanced`, how models are usually split by hand (0.80), and to the best classical heuristic (0.90);
- beside each the same ratio of the lower bound: no plan can be below that, and where it is above the target, the target
  is out of reach.

Geometric means are over the cases that have the ratio. Where `memory-balanced` finds no plan, there is none. Everything
takes hours; `--quick` takes minutes. `--keep FILE` writes each result down at once, and plans nothing again that is
there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

from benchmarks._alone import one_core
from benchmarks._planned import MODELS, Planned
from benchmarks._quality_tables import HEAD, line, summary, tables
from benchmarks._ratios import AUTO, Result, cases
from torchplace.compiler.capture import Captured
from torchplace.errors import InfeasibleError
from torchplace.placement.planning import Request, make_plan
from torchplace.placement.solvers.registry import solver_names
from torchplace.placement.topology import Topology

TOPOLOGIES = ("big-sur", "big-sur-dual-root", "big-sur-cascaded", "dgx1-v100", "rtx3090-3060")
"""`big-sur` has the layout `single-root`."""

OBJECTIVES = {"latency": (False, "latency"), "throughput": (False, "throughput"), "training": (True, "latency")}
"""Name -> whether the backward is planned too, and the objective of the request."""

QUICK = {"models": ["gpt2", "inception"], "topologies": ["big-sur", "rtx3090-3060"], "time_limit": 2.0}


class Kept:
    """Results in a file, one a line; none where there is no file.

    Args:
        path: of the file.
        time_limit: seconds that solvers are given: results of another limit are others.
    """

    def __init__(self, path: Path | None, time_limit: float) -> None:
        self.path, self.time_limit = path, time_limit
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        found = [json.loads(text) for text in lines]
        results = [Result(**data["result"]) for data in found if data["time_limit"] == time_limit]
        self.known = {(*r.key, r.solver): r for r in results}

    def get(self, model: str, topology: str, objective: str, solver: str) -> Result | None:
        """What is known already."""
        return self.known.get((model, topology, objective, solver))

    def add(self, result: Result) -> None:
        """Write a result down."""
        if self.path is not None:
            with self.path.open("a") as file:
                print(json.dumps({"time_limit": self.time_limit, "result": asdict(result)}), file=file)


def ordered(solvers: Sequence[str]) -> list[str]:
    """The default last: what is looked up for the first time, routes and costs of ops, is not at its expense."""
    return sorted(solvers, key=lambda name: name == AUTO)


def plan(captured: Captured, model: Planned, topology: str, objective: str, solver: str, seconds: float) -> Result:
    """Plan one case with one solver; a solver that fails is a result, too."""
    training, minimised = OBJECTIVES[objective]
    request = Request(
        Topology.preset(topology),
        solver=solver,
        objective=minimised,
        time_limit=seconds,
        optimizer=model.optimizer if training else None,
    )
    asked = (model.name, topology, objective, solver)
    begun = perf_counter()
    try:
        made = make_plan(captured, request)
    except InfeasibleError as error:
        return Result(*asked, None, seconds=perf_counter() - begun, reason=f"does not fit: {error}")
    except Exception as error:  # hours of other results are not to be lost for it
        return Result(*asked, None, seconds=perf_counter() - begun, reason=f"fails: {type(error).__name__}: {error}")
    took = perf_counter() - begun
    return Result(*asked, made.value, made.lower_bound, made.solver, len(made.devices_used), took)


def results(options: argparse.Namespace, kept: Kept) -> Iterator[Result]:
    """Every case with every solver."""
    for name in options.models:
        captures: dict[bool, Captured] = {}
        for topology in options.topologies:
            for objective in options.objectives:
                for solver in ordered(options.solvers):
                    known = kept.get(name, topology, objective, solver)
                    if known is None:
                        training = OBJECTIVES[objective][0]
                        if training not in captures:
                            captures[training] = MODELS[name].capture(training)
                        captured = captures[training]
                        known = plan(captured, MODELS[name], topology, objective, solver, options.time_limit)
                        kept.add(known)
                    yield known


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models on two topologies, 2 s for each solver")
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--topologies", nargs="+", metavar="NAME", help=f"presets; by default {', '.join(TOPOLOGIES)}")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--solvers", nargs="+", choices=solver_names(), metavar="SOLVER", default=solver_names())
    parser.add_argument("--time-limit", type=float, help="seconds for each solver; by default 10")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write results there, and read those that are there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    usual = {"models": list(MODELS), "topologies": list(TOPOLOGIES), "time_limit": 10.0}
    for name, value in (QUICK if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main() -> None:
    """Plan and print."""
    options = arguments()
    one_core()
    found: list[Result] = []
    for result in results(options, Kept(options.keep, options.time_limit)):
        if not found and not options.json:
            print(HEAD)
        found.append(result)
        print(line(result), flush=True, file=sys.stderr if options.json else sys.stdout)
    if options.json:
        data = {"time_limit": options.time_limit, "results": [asdict(r) for r in found]}
        print(json.dumps({**data, "summary": summary(cases(found))}, indent=1))
    else:
        print(tables(cases(found)))


if __name__ == "__main__":
    main()
