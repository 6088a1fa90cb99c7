"""Measures the devices of this machine, and keeps the figures where placement reads them."""

from __future__ import annotations

import queue
import statistics
import threading
from collections.abc import Callable
from time import perf_counter

import torch

from torchplace.placement.topology.figures import CpuFigures, read_figures, write_figures

_SIZE, _COPY = 512, 8 * 2**20


def cpu_figures(threads: int | None = None) -> CpuFigures:
    """Speeds of a CPU device of this machine: read from the cache, or measured now (about 0.2 s) and kept.

    Args:
        threads: intra-op threads; None for what torch uses now.
    """
    count = threads or torch.get_num_threads()
    known = read_figures(count)
    if known is None:
        known = measure_cpu(count)
        write_figures(count, known)
    return known


def measure_cpu(threads: int) -> CpuFigures:
    """Time a matrix product, a copy, a small op and a hand-over between threads, with `threads` intra-op threads.

    Medians of repeated runs; this is a rough figure of a machine at one moment, not a benchmark.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            return _measure()
    finally:
        torch.set_num_threads(before)


def _measure() -> CpuFigures:
    a = torch.randn(_SIZE, _SIZE)
    big, small = torch.empty(_COPY // 4), torch.zeros(4)
    product = _median(lambda: a @ a, 9)
    copy = _median(lambda: big + 1, 9)
    launch = _median(lambda: [small + small for _ in range(100)], 5) / 100
    return CpuFigures(
        peak_flops=2 * _SIZE**3 / product,
        memory_bandwidth=2 * _COPY / copy,
        launch_overhead=launch,
        transfer_latency=_hand_over(),
        # A transfer between threads of one process hands over a reference: its size hardly matters.
        transfer_bandwidth=1e12,
    )


def _median(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return statistics.median(times)


def _hand_over(rounds: int = 200) -> float:
    """Seconds for a value to get from one thread to another."""
    there: queue.SimpleQueue[int] = queue.SimpleQueue()
    back: queue.SimpleQueue[int] = queue.SimpleQueue()

    def echo() -> None:
        for _ in range(rounds):
            back.put(there.get())

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    start = perf_counter()
    for i in range(rounds):
        there.put(i)
        back.get()
    thread.join()
    return (perf_counter() - start) / rounds / 2
