"""Placed: a step that torchplace has planned."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torchplace as tp
from benchmarks._pipeline_problems import Case
from benchmarks._pipeline_team import Rank, Worker
from benchmarks._timing import median
from torchplace.runtime.op_times import pace_kept
from torchplace.runtime.reference import reference_seconds


class Placed(Worker):
    """On local devices of one thread each, all in this process; or each in a process of its own.

    Attributes:
        problem: that it works on.
    """

    def __init__(self, case: Case, rank: Rank, devices: int = 2, cost: str = "auto") -> None:
        """Prepare; the first step plans.

        Args:
            case: to work on.
            rank: one of as many as there are devices, or the only one.
            devices: how many, where this process has all.
            cost: source of compute costs.
        """
        self._ranks = rank.size
        self.problem = case.build()
        self._first = 0.0
        self._step = tp.compile(
            self.problem.model,
            loss_fn=self.problem.loss_fn,
            microbatches=case.microbatches,
            topology=tp.Topology.local(devices if rank.size == 1 else rank.size, threads=1),
            cost=cost,
        )

    def gradients(self) -> float:
        """Of the loss of the whole batch, which every rank has: its share in it."""
        start = perf_counter()
        loss = self._step(*self.problem.args, target=self.problem.target, **self.problem.kwargs)
        self._first = self._first or perf_counter() - start
        return float(loss) / self._ranks

    def pace(self) -> float:
        """Of this moment, by the pace that costs are kept for."""
        kept = pace_kept(tp.plans(self._step)[0].topology.devices[0])
        return median([reference_seconds() for _ in range(5)]) / kept if kept else 1.0

    def facts(self) -> dict[str, Any]:
        """Its plan."""
        plan = tp.plans(self._step)[0]
        return {
            "schedule": plan.schedule,
            "solver": plan.solver,
            "cost": plan.cost,
            "predicted": plan.predicted.step_time,
            "first_call": self._first,
            "ops": plan.ops_on,
            "parameter_bytes": plan.parameter_bytes,
            "peak_bytes": plan.predicted.peak_memory,
            "busy": plan.predicted.busy,
        }
