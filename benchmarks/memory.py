"""Predicted beside measured peak memory, for each device: how far do predictions hold?

    python -m benchmarks.memory [--models gpt2,unet] [--cost roofline] [--optimizer adamw] [--json]

Each model of `benchmarks/_models.py`, forward and training, on 1, 2 and 3 CPU devices. Predicted is what the plan says
before anything has run. Measured is what torch's allocator gave out while each device worked, workspaces included, on
CPU devices that share nothing (`runtime.isolated`): a received value is a copy of its receiver's. With `--optimizer`, a
real one has made a step before.

With `--cost measured` (the default) the workspaces of ops were measured, op by op, before; with another they are
estimated by formulas.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torchplace as tp
from benchmarks._models import MODELS, build
from torchplace.api import session_of
from torchplace.placement.optimizer import KINDS
from torchplace.runtime.memory_meter import isolate, measure_memory

PLACEMENTS = (
    (1, "single"),
    *((2, s) for s in ("balanced", "round-robin", "random", "heft", "memory-balanced")),
    *((3, s) for s in ("balanced", "random")),
)


@dataclass
class Case:
    """One device under one plan of one model: bytes at the peak."""

    model: str
    training: bool
    devices: int
    solver: str
    device: str
    predicted: int
    measured: int

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1


def cases(name: str, training: bool, devices: int, solver: str, cost: str, optimizer: str | None) -> list[Case]:
    """Plan a model, run it, and compare, device by device; devices that hold nothing are left out."""
    model, args, kwargs = build(name)
    model.train(training)
    options: dict[str, Any] = {"topology": f"local:{devices}", "solver": solver, "cost": cost, "optimizer": optimizer}
    compiled = tp.compile(model, **options)
    session = session_of(compiled)
    isolate(session)
    real = KINDS[optimizer](list(model.parameters())) if optimizer and training else None
    measured = measure_memory(compiled, session, args, kwargs, training=training, optimizer=real)
    [plan] = tp.plans(compiled)
    return [
        Case(name, training, devices, solver, device, plan.predicted.peak_memory[device], found.peak)
        for device, found in measured.items()
        if found.peak or plan.predicted.peak_memory[device]
    ]


def summary(found: Sequence[Case]) -> dict[str, float]:
    """Errors over all devices of all cases."""
    errors = [abs(c.error) for c in found]
    return {
        "devices": len(errors),
        "mean": statistics.mean(errors),
        "worst": max(errors),
        "within 3%": sum(e <= 0.03 for e in errors) / len(errors),
    }


def line(case: Case) -> str:
    """A row of the table."""
    what = "training" if case.training else "forward"
    return (
        f"{case.model:10} {what:9} {case.devices} {case.solver:16} {case.device:7} {case.measured / 2**20:9.3f} "
        f"{case.predicted / 2**20:9.3f} {case.error:+8.3%}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--cost", default="measured", help="as the option: roofline, measured or fitted")
    parser.add_argument("--optimizer", choices=list(KINDS), help="its state counts in training")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: list[Case] = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHPLACE_CACHE"] = cache
        if not options.json:
            print(
                f"{'model':10} {'what':9} n {'solver':16} {'device':7} {'measured':>9} {'predicted':>9} {'error':>8}  (MiB)"  # noqa: E501
            )
        for name, training, where in itertools.product(options.models.split(","), (False, True), PLACEMENTS):
            some = cases(name, training, *where, options.cost, options.optimizer)
            found += some
            if not options.json:
                print("\n".join(map(line, some)), flush=True)
    if options.json:
        print(json.dumps({"cases": [asdict(c) for c in found], "summary": summary(found)}, indent=1))
    else:
        print("  ".join(f"{k}: {v:.3g}" for k, v in summary(found).items()))


if __name__ == "__main__":
    main()
