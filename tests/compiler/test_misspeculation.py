"""A graph that expects something, and fails, is set back, and says what it expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode

from torchplace.compiler.foresight import Foresight, foreseen_for, remembered, tried_in_vain
from torchplace.compiler.misspeculation import Misspeculation, require_new, speculating
from torchplace.errors import ExecutionError

OUTCOMES = (("net.py:7", True),)


@contextmanager
def expecting() -> Iterator[None]:
    with foreseen_for(Foresight()), tracing(TracingContext(FakeTensorMode())):
        for line, value in OUTCOMES:
            assert remembered(line, None, value)
        yield


def failing(written: torch.Tensor, kept: torch.Tensor) -> Any:
    written.add_(1)
    raise ExecutionError(f"no, after {float(kept)}")


def test_what_it_has_written_is_set_back() -> None:
    with expecting():
        run = speculating(failing, [0])
    x = torch.zeros(2)
    with pytest.raises(Misspeculation) as caught:
        run(x, torch.ones(()))
    assert torch.equal(x, torch.zeros(2))
    assert caught.value.outcomes == OUTCOMES
    assert not caught.value.was_checked


@pytest.mark.parametrize(
    "said", ["torchplace expects net.py:7 to go as", "RuntimeError: Runtime assertion failed for u0"]
)
def test_what_was_checked_is_known(said: str) -> None:
    failed = Misspeculation(OUTCOMES)
    failed.__cause__ = ExecutionError(f"op 'x' failed on device cpu:0: {said}")
    assert failed.was_checked


def test_what_expects_nothing_fails_as_it_does() -> None:
    assert speculating(failing, [0]) is failing


def test_what_was_tried_is_not_tried_again() -> None:
    with expecting():
        require_new()
        with tried_in_vain({OUTCOMES}), pytest.raises(Misspeculation):
            require_new()
