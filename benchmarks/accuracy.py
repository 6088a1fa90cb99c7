"""Predicted beside measured step time, on CPU devices: how far do predictions hold?

    python -m benchmarks.accuracy [--models gpt2,unet] [--rounds 7] [--threads N] [--json]

Each model of `benchmarks/_models.py` (not one of them is in the set that `fitted` is calibrated with), forward and
training, on 1 and 2 CPU devices, with solvers that spread the ops. Costs start from nothing, in a cache directory of
their own. `measured`: the model's ops are timed one by one in graph order. `fitted`: the same programs, costed by a
regression on the calibration set alone. Neither ever sees the time of a step, a segment or a plan.

Plans of a model run in turn, with a fixed reference workload between them. This machine drifts: predictions are
multiplied by how long the reference took while the plans ran, over how long it took while the ops were timed. The drift that
is printed is the spread of the reference over the run (90th over 10th percentile, minus 1).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.utils import _pytree as pytree

import torchplace as tp
from benchmarks._models import MODELS, build
from torchplace.compiler.dry import capture_dry
from torchplace.options import resolve_topology
from torchplace.placement.cost.store import CostStore
from torchplace.placement.evaluate import Evaluator
from torchplace.runtime.op_times import measure_ops
from torchplace.runtime.reference import reference_seconds

SOLVERS = ("balanced", "round-robin", "random", "heft", "memory-balanced")


@dataclass
class Case:
    """One plan of one model: seconds, and what was predicted."""

    model: str
    training: bool
    devices: int
    solver: str
    segments: int
    measured: float
    predicted: float
    fitted: float
    drift: float

    def error(self, source: str) -> float:
        """Relative error of a prediction."""
        return float(getattr(self, source)) / self.measured - 1


def reference(times: int = 5) -> float:
    """Median seconds of the reference workload now."""
    return statistics.median(reference_seconds() for _ in range(times))


def step(model: Any, args: Sequence[Any], kwargs: dict[str, Any], training: bool) -> None:
    """One call, and its backward in training."""
    with torch.set_grad_enabled(training):
        outputs = [t for t in pytree.tree_leaves(model(*args, **kwargs)) if isinstance(t, torch.Tensor)]
        wanted = [t for t in outputs if t.requires_grad]
        if training:
            torch.autograd.backward([t.float().mean() for t in wanted])


class Bench:
    """Runs the cases of one model."""

    def __init__(self, cache: Path, rounds: int, threads: int | None) -> None:
        self.rounds, self.threads = rounds, threads
        self.stores = {name: CostStore(cache / name / "costs.sqlite") for name in ("measured", "calibration")}
        os.environ["TORCHPLACE_CACHE"] = str(cache / "measured")
        self.topologies = {n: resolve_topology(tp.Topology.local(n, threads), calibrate=True) for n in (1, 2)}
        self.fitted = self._fitted() if not os.environ.get("NOFIT") else None

    def _fitted(self) -> Any:
        from torchplace.placement.cost.fitted import Fitted
        from torchplace.runtime.calibration_set import fill_store

        fill_store(self.topologies[2], self.stores["calibration"])
        return Fitted(self.stores["calibration"])

    def cases(self, name: str, training: bool) -> list[Case]:
        """Every plan of a model, in turn."""
        model, args, kwargs = build(name)
        model.train(training)
        captured = capture_dry(model, args, kwargs, training=training)[0]
        before = [reference_seconds() for _ in range(7)]
        for topology in self.topologies.values():
            measure_ops(captured, topology, self.stores["measured"])
        while_timed = statistics.median([*before, *(reference_seconds() for _ in range(7))])
        plans, models = {}, {}
        for devices, solver in [(1, "single"), *((2, s) for s in SOLVERS)]:
            key = devices, solver
            models[key] = tp.compile(
                copy.deepcopy(model), topology=self.topologies[devices], solver=solver, cost="measured"
            )
            for _ in range(2):
                step(models[key], args, kwargs, training)
            plans[key] = tp.plans(models[key])
        times, references = self._run(models, args, kwargs, training)
        now = statistics.median(references)
        drift = _spread(references)
        print(f"ref {while_timed * 1e3:.2f} {now * 1e3:.2f}")
        return [
            Case(
                name,
                training,
                key[0],
                key[1],
                sum(len(p.segments) for p in plans[key][0].programs),
                statistics.median(times[key]),
                sum(p.predicted.step_time for p in plans[key]) * now / while_timed,
                self._by_fit(captured, key[0], plans[key][0]),
                drift,
            )
            for key in models
        ]

    def _by_fit(self, captured: Any, devices: int, plan: tp.Plan) -> float:
        if self.fitted is None:
            return plan.predicted.step_time
        return Evaluator(captured, self.topologies[devices], self.fitted, {}).simulate(plan.programs).duration

    def _run(
        self, models: dict[Any, Any], args: Any, kwargs: Any, training: bool
    ) -> tuple[dict[Any, list[float]], list[float]]:
        times: dict[Any, list[float]] = {key: [] for key in models}
        references = []
        for _ in range(self.rounds):
            for key, model in models.items():
                model.zero_grad()
                references.append(reference_seconds())
                begun = perf_counter()
                step(model, args, kwargs, training)
                times[key].append(perf_counter() - begun)
        return times, references


def _spread(times: Sequence[float]) -> float:
    ordered = sorted(times)
    return ordered[int(0.9 * (len(ordered) - 1))] / ordered[int(0.1 * (len(ordered) - 1))] - 1


def kendall(cases: Sequence[Case], source: str) -> float:
    """Kendall's tau between predicted and measured, over pairs of a model's plans that differ by more than the drift."""
    agree = total = 0
    for one, other in itertools.combinations(cases, 2):
        if (one.model, one.training) != (other.model, other.training):
            continue
        if max(one.measured, other.measured) / min(one.measured, other.measured) - 1 <= one.drift:
            continue
        total += 1
        agree += (one.measured < other.measured) == (getattr(one, source) < getattr(other, source))
    return 2 * agree / total - 1 if total else 1.0


def summary(cases: Sequence[Case]) -> dict[str, float]:
    """Errors over all cases."""
    found: dict[str, float] = {"cases": len(cases), "drift": statistics.median(c.drift for c in cases)}
    for source in ("predicted", "fitted"):
        errors = [abs(c.error(source)) for c in cases]
        found |= {f"{source} mean": statistics.mean(errors), f"{source} worst": max(errors)}
        found[f"{source} tau"] = kendall(cases, source)
    return found


def line(case: Case) -> str:
    """A row of the table."""
    what = "training" if case.training else "forward"
    return (
        f"{case.model:10} {what:9} {case.devices} {case.solver:16} {case.segments:5} {case.measured * 1e3:9.2f} "
        f"{case.predicted * 1e3:9.2f} {case.error('predicted'):+7.1%} {case.fitted * 1e3:9.2f} {case.error('fitted'):+7.1%} "
        f"{case.drift:6.1%}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="intra-op threads of each device (default: torch's)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as cache:
        bench = Bench(Path(cache), options.rounds, options.threads)
        if not options.json:
            print(
                f"{'model':10} {'what':9} n {'solver':16} {'segm.':>5} {'measured':>9} {'predicted':>9} {'error':>7} "
                f"{'fitted':>9} {'error':>7} {'drift':>6}   (ms)"
            )
        for name, training in itertools.product(options.models.split(","), (False, True)):
            found = bench.cases(name, training)
            cases += found
            if not options.json:
                print("\n".join(map(line, found)), flush=True)
    if options.json:
        print(json.dumps({"cases": [asdict(c) for c in cases], "summary": summary(cases)}, indent=1))
    else:
        print("  ".join(f"{k}: {v:.3g}" for k, v in summary(cases).items()))


if __name__ == "__main__":
    main()
