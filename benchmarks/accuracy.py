"""Predicted beside measured step time, on CPU devices: how far do predictions hold?

    python -m benchmarks.accuracy [--models gpt2,unet] [--rounds 9] [--json]

Each model of `benchmarks/_models.py` (not one of them is in the set that `fitted` is calibrated with), forward and
training, on 1 and 2 CPU devices, with solvers that spread the ops. Costs start from nothing, in a cache directory of
their own. `measured`: the model's ops are timed one by one in graph order, before the plans are made, and again when
half of the plans' runs are over, for the speed of ops drifts with the state of the process and of the machine.
`fitted`: the same programs, costed by a regression on the calibration set alone. Neither ever sees the time of a step,
a segment or a plan.

Plans of a model run in turn: a fixed reference workload, a step that warms the caches as a loop of steps does, and the
step that counts: the call and its backward, from gradients that are given. This machine drifts: costs are kept for the
pace that it had when it was calibrated, by the reference workload, and predictions are multiplied by how long the
reference took while the plans ran, over how long it took then. The drift that is printed is the spread of the reference
over the run (90th over 10th percentile, minus 1).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torchplace as tp
from benchmarks._models import MODELS, build
from torchplace.compiler.capture import Captured
from torchplace.compiler.dry import capture_dry
from torchplace.options import resolve_topology
from torchplace.placement.cost.fitted import Fitted
from torchplace.placement.cost.measured import Measured
from torchplace.placement.cost.store import CostStore
from torchplace.placement.evaluate import Evaluator
from torchplace.runtime.calibrate import calibrated_figures
from torchplace.runtime.calibration_set import fill_store
from torchplace.runtime.op_times import measure_ops
from torchplace.runtime.reference import reference_seconds
from torchplace.runtime.steps import Step

SOLVERS = ("balanced", "round-robin", "random", "heft", "memory-balanced")
"""They spread the ops, each in its own way."""

SOURCES = ("measured", "fitted")
"""Sources of compute costs that are judged."""

Setting = tuple[int, str]
"""How many devices, and which solver."""

SETTINGS: tuple[Setting, ...] = ((1, "single"), *((2, solver) for solver in SOLVERS))


@dataclass
class Case:
    """One plan of one model.

    Attributes:
        model, training, devices, solver: what was run.
        segments: of its programs.
        seconds: median of its steps.
        measured: seconds predicted from measured ops.
        fitted: seconds predicted from fitted ops.
        drift: of the reference workload meanwhile.
    """

    model: str
    training: bool
    devices: int
    solver: str
    segments: int
    seconds: float
    measured: float
    fitted: float
    drift: float

    def error(self, source: str) -> float:
        """Relative error of a prediction."""
        return float(getattr(self, source)) / self.seconds - 1


class Bench:
    """Runs the cases of one model after the other.

    Args:
        cache: a directory for the stores of costs.
        rounds: how often each plan is run.
    """

    def __init__(self, cache: Path, rounds: int) -> None:
        self.rounds = rounds
        os.environ["TORCHPLACE_CACHE"] = str(cache)
        self.store, calibration = CostStore(), CostStore(cache / "calibration.sqlite")
        self.topologies = {n: resolve_topology(tp.Topology.local(n), calibrate=True) for n in (1, 2)}
        fill_store(self.topologies[2], calibration)
        self.pace, self.fitted = calibrated_figures().reference, Fitted(calibration)

    def cases(self, name: str, training: bool) -> list[Case]:
        """Every plan of a model, in turn."""
        model, args, kwargs = build(name)
        model.train(training)
        captured = capture_dry(model, args, kwargs, training=training)[0]
        measure_ops(captured, self.topologies[2], self.store)
        models = {s: self._compiled(model, s) for s in SETTINGS}
        steps = {s: Step(models[s], args, kwargs, training) for s in SETTINGS}
        times, references = self._run(steps, lambda: measure_ops(captured, self.topologies[2], self.store, again=True))
        scale, drift = statistics.median(references) / self.pace, _spread(references)
        return [
            self._case(name, captured, setting, tp.plans(models[setting]), times[setting], scale, drift)
            for setting in SETTINGS
        ]

    def _compiled(self, model: Any, setting: Setting) -> Any:
        devices, solver = setting
        return tp.compile(copy.deepcopy(model), topology=self.topologies[devices], solver=solver, cost="measured")

    def _case(
        self,
        name: str,
        captured: Captured,
        setting: Setting,
        plans: list[tp.Plan],
        times: list[float],
        scale: float,
        drift: float,
    ) -> Case:
        devices, solver = setting
        programs = plans[0].programs
        measured, fitted = (
            Evaluator(captured, self.topologies[devices], cost, {}).simulate(programs).duration
            for cost in (Measured(self.store), self.fitted)
        )
        return Case(
            name,
            captured.training,
            devices,
            solver,
            sum(len(program.segments) for program in programs),
            statistics.median(times),
            measured * scale,
            fitted * scale,
            drift,
        )

    def _run(
        self, steps: dict[Setting, Step], halfway: Callable[[], Any]
    ) -> tuple[dict[Setting, list[float]], list[float]]:
        times: dict[Setting, list[float]] = {key: [] for key in steps}
        references = []
        for i in range(1 + self.rounds):
            if i == (1 + self.rounds) // 2:
                halfway()
            for key, step in steps.items():
                reference = reference_seconds()
                for _ in range(2):
                    step.forget()
                    begun = perf_counter()
                    step()
                    seconds = perf_counter() - begun
                if i:
                    times[key].append(seconds)
                    references.append(reference)
        return times, references


def _spread(times: Sequence[float]) -> float:
    ordered = sorted(times)
    return ordered[int(0.9 * (len(ordered) - 1))] / ordered[int(0.1 * (len(ordered) - 1))] - 1


def kendall(cases: Sequence[Case], source: str) -> float:
    """Kendall's tau between predicted and measured, over pairs of a model's plans that differ by more than drift."""
    agree = total = 0
    for one, other in itertools.combinations(cases, 2):
        if (one.model, one.training) != (other.model, other.training):
            continue
        if max(one.seconds, other.seconds) / min(one.seconds, other.seconds) - 1 <= one.drift:
            continue
        total += 1
        agree += (one.seconds < other.seconds) == (getattr(one, source) < getattr(other, source))
    return 2 * agree / total - 1 if total else 1.0


def summary(cases: Sequence[Case]) -> dict[str, float]:
    """Errors over all cases; the drift is the median over the cases."""
    found: dict[str, float] = {"cases": len(cases), "drift": statistics.median(c.drift for c in cases)}
    for source in SOURCES:
        errors = [abs(c.error(source)) for c in cases]
        found |= {
            f"{source} mean": statistics.mean(errors),
            f"{source} worst": max(errors),
            f"{source} worst in drifts": max(e / max(0.06, c.drift) for e, c in zip(errors, cases, strict=True)),
            f"{source} bias": statistics.mean(c.error(source) for c in cases),
            f"{source} tau": kendall(cases, source),
        }
    return found


HEAD = (
    f"{'model':10} {'what':9} n {'solver':16} {'segm.':>5} {'seconds':>9} {'measured':>9} {'error':>7} "
    f"{'fitted':>9} {'error':>7} {'drift':>6}   (times in ms)"
)


def line(case: Case) -> str:
    """A row of the table."""
    what = "training" if case.training else "forward"
    predictions = (f"{getattr(case, s) * 1e3:9.2f} {case.error(s):+7.1%}" for s in SOURCES)
    return (
        f"{case.model:10} {what:9} {case.devices} {case.solver:16} {case.segments:5} {case.seconds * 1e3:9.2f} "
        f"{' '.join(predictions)} {case.drift:6.1%}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as cache:
        bench = Bench(Path(cache), options.rounds)
        if not options.json:
            print(HEAD)
        for name, training in itertools.product(options.models.split(","), (False, True)):
            found = bench.cases(name, training)
            cases += found
            if not options.json:
                print("\n".join(map(line, found)), flush=True)
    if options.json:
        print(json.dumps({"cases": [asdict(c) for c in cases], "summary": summary(cases)}, indent=1))
    else:
        print("\n".join(f"{name}: {value:.3g}" for name, value in summary(cases).items()))


if __name__ == "__main__":
    main()
