"""Cores: each of several CPU devices that compute together keeps to its own.

A thread that waits is often woken on the core of whoever woke it, and two devices then take turns on one core for a
while, or threads of one hinder the other. With a part of the cores each, what a device takes does not depend on that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate

from torchplace.placement.topology.topology import Topology


def deal_cores(topology: Topology, devices: Iterable[str]) -> dict[str, frozenset[int]]:
    """Cores for the CPU devices that share some, as many as they have threads, in order; none where they are too few.

    Args:
        topology: with the threads of this program's devices (`Topology.used`).
        devices: that compute in it.
    """
    here = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    dealt: dict[str, frozenset[int]] = {}
    for group in topology.coruns:
        members = [d for d in devices if d in group.devices and topology.device(d).torch_device == "cpu"]
        counts = [topology.device(d).threads or len(here) for d in members]
        if group.capacity is None or len(members) < 2 or sum(counts) > len(here):
            continue
        ends = list(accumulate(counts))
        dealt.update((d, frozenset(here[end - n : end])) for d, n, end in zip(members, counts, ends, strict=True))
    return dealt


def keep_to(cores: frozenset[int]) -> None:
    """Let the calling thread, and those that it will start, run on some cores only; none stands for any."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores & os.sched_getaffinity(0) or cores)


@contextmanager
def kept_to(cores: frozenset[int]) -> Iterator[None]:
    """Within, the calling thread runs on one core only, if it is one; several stand for any.

    For a thread that is not ours: what it starts meanwhile inherits the choice for good, and a thread with more than
    one core starts others to compute with.
    """
    if len(cores) != 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    keep_to(cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
