"""Eager: micro-batches one after the other, on one thread."""

from __future__ import annotations

import torch

from benchmarks._pipeline_problems import Case
from benchmarks._pipeline_team import Rank, Worker


class Eager(Worker):
    """Every so many-th micro-batch, as many as there are processes: alone, a process does all."""

    def __init__(self, case: Case, rank: Rank) -> None:
        self.problem = case.build()
        self._count = case.microbatches
        self._losses = list(self.problem.microbatches(case.microbatches))[rank.number :: rank.size]

    def gradients(self) -> float:
        """Of the mean over all micro-batches of the step."""
        total = 0.0
        for make in self._losses:
            loss = make() / self._count
            torch.autograd.backward(loss)
            total += loss.item()
        return total
