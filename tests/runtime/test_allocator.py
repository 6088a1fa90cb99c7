"""The allocator keeps what tensors give back, unless somebody has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from torchplace.runtime.allocator import keep_freed_memory
kept = keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 22)
before = faults()
for _ in range(20):
    torch.ones(1 << 22)
print(kept, (faults() - before) / 20 > 1000)
"""


def run(**environment: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return result.stdout.split()


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="glibc only"
)
def test_blocks_of_16_mib_come_back_without_new_pages() -> None:
    assert run() == ["True", "False"]
    assert run(TORCHPLACE_KEEP_MEMORY="0")[0] == "False"
    assert run(MALLOC_TRIM_THRESHOLD_="131072")[0] == "False", "somebody has tuned it"
