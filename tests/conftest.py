"""What all tests share: hypothesis is repeatable, and never fails because the machine is busy."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "torchplace", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("torchplace")

os.environ.setdefault("TORCHPLACE_KEEP_PLANS", "0")  # what a test plans must not come from the day before


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Nothing that Dynamo has compiled is there from a test before, nor for one behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One intra-op thread: sums over several are rounded otherwise, so that results are equal to the bit only with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
