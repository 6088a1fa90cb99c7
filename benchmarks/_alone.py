"""One core for everything that a benchmark does: solvers are compared at equal time, not at equal threads."""

from __future__ import annotations

import os

import torch


def one_core() -> None:
    """Keep this process, and those that it will start, to one core where the system can do that."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
