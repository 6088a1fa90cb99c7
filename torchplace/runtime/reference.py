"""A fixed piece of work: how long it takes now tells how fast this machine is now."""

from __future__ import annotations

import functools
from time import perf_counter

import torch


@functools.cache
def _tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(*sizes, generator=generator) for sizes in ((256, 256), (1024, 1024), (4, 16)))
    square, large, small = made
    return square, large, small


def reference_seconds() -> float:
    """Seconds that a mix of products, softmax, elementwise work on 4 MB and small ops takes now: about 20 ms here.

    Machines drift; what is measured at different times is compared after division by this. On one thread, so that it
    says nothing of how many threads others have started.
    """
    square, large, small = _tensors()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    begun = perf_counter()
    with torch.no_grad():
        for _ in range(12):
            torch.mm(square, square)
        for _ in range(3):
            torch.add(large, 1.0)
            torch.softmax(large, 1)
        for _ in range(600):
            torch.add(small, 1.0)
    seconds = perf_counter() - begun
    torch.set_num_threads(threads)
    return seconds
