"""Measures the devices of this machine, and keeps the figures where placement reads them."""

from __future__ import annotations

import queue
import statistics
import threading
from collections.abc import Callable
from time import perf_counter

import torch

from torchplace.placement.topology.figures import CpuFigures, read_figures, write_figures

_SIZE, _COPY = 512, 64 * 2**20  # the copy is larger than caches


def cpu_figures(threads: int | None = None) -> CpuFigures:
    """Speeds of a CPU device of this machine: read from the cache, or measured now (under a second) and kept.

    Where other processes hold the cores meanwhile, nominal figures are given, and the next call measures again.

    Args:
        threads: intra-op threads; None for what torch uses now.
    """
    count = threads or torch.get_num_threads()
    known = read_figures(count)
    if known is not None:
        return known
    measured = measure_cpu(count)
    if _is_disturbed(measured, measured if count == 1 else measure_cpu(1)):
        return CpuFigures.nominal(count)
    write_figures(count, measured)
    return measured


def _is_disturbed(figures: CpuFigures, alone: CpuFigures) -> bool:
    """Whether other processes must have held the cores: threads that wait for a core are slower than one alone."""
    return figures.launch_overhead > 50e-6 or figures.peak_flops < 0.9 * alone.peak_flops


def measure_cpu(threads: int) -> CpuFigures:
    """Time a matrix product, a copy, a small op and a hand-over between threads, with `threads` intra-op threads.

    The fastest of repeated runs: a peak is what the machine can do when nobody disturbs it, and the figures are
    kept. They are rough, not a benchmark.
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
    big, out, small = torch.zeros(_COPY // 4), torch.zeros(_COPY // 4), torch.zeros(4, 4)
    product = _fastest(lambda: a @ a, 15)
    copy = _fastest(lambda: torch.add(big, 1, out=out), 9)
    kinds = (lambda: small + small, lambda: small @ small, lambda: small.softmax(0))
    launch = statistics.mean(_fastest(work, 200) for work in kinds)
    return CpuFigures(
        peak_flops=2 * _SIZE**3 / product,
        memory_bandwidth=2 * _COPY / copy,
        launch_overhead=launch,
        transfer_latency=_hand_over(),
        # A transfer between threads of one process hands over a reference: its size hardly matters.
        transfer_bandwidth=1e12,
    )


def _fastest(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times)


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
