"""CP-SAT can be interrupted, again and again. What it answers is in `test_solve.py`."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ortools.sat.python import cp_model

from torchplace.placement.maxload.exact import SOLVED, run

MINUTES = 120.0


def packing(items: int) -> cp_model.CpModel:
    """Items of random size on eight devices, whose largest load is to be least: hard to prove for many."""
    chance, model = random.Random(0), cp_model.CpModel()
    load = model.new_int_var(0, 10**9, "load")
    at = [[model.new_bool_var(f"{item} at {device}") for device in range(8)] for item in range(items)]
    sizes = [[chance.randrange(1, 10**5) for _ in range(8)] for _ in range(items)]
    for row in at:
        model.add_exactly_one(row)
    for device in range(8):
        model.add(sum(sizes[i][device] * at[i][device] for i in range(items)) <= load)
    model.minimize(load)
    return model


@contextmanager
def interrupt_soon() -> Iterator[None]:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    yield


@pytest.fixture
def interrupted_as_python_does() -> Iterator[None]:
    """A shell starts what runs in the background with interrupts ignored, and Python leaves that as it is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupted_as_python_does")
def test_an_interrupt_is_raised_at_once_and_so_is_the_next() -> None:
    model = packing(200)
    before = signal.getsignal(signal.SIGINT)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), interrupt_soon():
            run(model, MINUTES)
    assert signal.getsignal(signal.SIGINT) is before
    solver, outcome = run(packing(4), MINUTES)
    assert outcome in SOLVED
    with pytest.raises(KeyboardInterrupt):  # by Python's handler, which is still there
        signal.raise_signal(signal.SIGINT)
    assert solver.objective_value > 0
