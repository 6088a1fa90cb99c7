"""How fast a device computes: its peaks by dtype, its memory, and what an op costs before it does any work."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch

from torchplace.runtime.accelerator import Stopwatch, is_accelerator, on_device, synchronize

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Dtypes whose peaks are measured; those that a device cannot multiply are left out."""
_COPY = 64 << 20  # bytes, more than caches hold
_SECONDS, _MOST = 0.2, 15  # for each figure, and repetitions in that time


@dataclass(frozen=True)
class Speeds:
    """Speeds of one device that works alone.

    Attributes:
        peak_flops: FLOP/s by the dtype's short name, of a square matrix product.
        memory_bandwidth: bytes/s, reads and writes together.
        launch_overhead: seconds that a small op takes.
    """

    peak_flops: dict[str, float]
    memory_bandwidth: float
    launch_overhead: float


def measure_speeds(device: torch.device) -> Speeds:
    """Time products, a copy and small ops on a device, on as many intra-op threads as are set. Takes a second or two.

    The fastest of repeated runs: a peak is what the device can do when nobody disturbs it.
    """
    with torch.no_grad(), on_device(device):
        peaks = {str(dtype).removeprefix("torch."): _peak(device, dtype) for dtype in DTYPES}
        big, out = (torch.zeros(_COPY // 4, device=device) for _ in range(2))
        small = torch.zeros(4, 4, device=device)
        kinds = (lambda: small + small, lambda: small @ small, lambda: small.softmax(0))
        return Speeds(
            {name: flops for name, flops in peaks.items() if flops is not None},
            2 * _COPY / _fastest(device, lambda: torch.add(big, 1, out=out)),
            statistics.mean(_fastest(device, work, repeats=20) for work in kinds),
        )


def product(device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Callable[[], object], float]:
    """A matrix product to be repeated, and the FLOPs of one."""
    size = 4096 if is_accelerator(device) else 512
    a = torch.randn(size, size, device=device).to(dtype)
    return lambda: a @ a, 2.0 * size**3


def _peak(device: torch.device, dtype: torch.dtype) -> float | None:
    try:
        work, flops = product(device, dtype)
        return flops / _fastest(device, work)
    except (RuntimeError, TypeError):  # this device has no such numbers, or no such product
        return None


def _fastest(device: torch.device, work: Callable[[], object], repeats: int = 1) -> float:
    """Seconds of one of `repeats` in a row."""
    work()
    synchronize(device)
    watch, end, found = Stopwatch(device), perf_counter() + _SECONDS, list[float]()
    while len(found) < 3 or (len(found) < _MOST and perf_counter() < end):
        watch.stamp()
        for _ in range(repeats):
            work()
        watch.stamp()
        found += watch.seconds()
    return min(found) / repeats
