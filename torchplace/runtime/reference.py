"""A fixed piece of work: how long it takes now tells how fast this machine is now."""

from __future__ import annotations

import functools
from time import perf_counter

import torch


@functools.cache
def _tensors() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(*sizes, generator=generator) for sizes in ((256, 256), (1024, 1024), (4, 16))]
    results = [torch.empty_like(tensor) for tensor in made]
    _work(*made, *results)  # the first time, caches and thread pools are cold
    return (*made, *results)


def reference_seconds() -> float:
    """Seconds that a mix of products, softmax, elementwise work on 4 MB and small ops takes now: about 7 ms here.

    Machines drift; what is measured at different times is compared after division by this. On one thread, so that it
    says nothing of how many threads others have started; and into memory that is there, for what the allocator gives
    back, and takes again page by page, is the process's affair: it took as long again as all the rest.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tensors = _tensors()
    begun = perf_counter()
    _work(*tensors)
    seconds = perf_counter() - begun
    torch.set_num_threads(threads)
    return seconds


def _work(square: torch.Tensor, large: torch.Tensor, small: torch.Tensor, *results: torch.Tensor) -> None:
    with torch.no_grad():
        for _ in range(12):
            torch.mm(square, square, out=results[0])
        for _ in range(3):
            torch.add(large, 1.0, out=results[1])
            torch.softmax(large, 1, out=results[1])
        for _ in range(600):
            torch.add(small, 1.0, out=results[2])
