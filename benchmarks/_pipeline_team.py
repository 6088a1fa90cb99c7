"""Team: processes that do a step together whenever they are told to, so that contestants can be timed in turn."""

from __future__ import annotations

import multiprocessing
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from benchmarks._pipeline_problems import Case, Problem
from benchmarks._ranks import environments

KEPT_MEMORY: Mapping[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
"""For glibc: what `torchplace.runtime.allocator` asks it for, and leaves as it is where it finds these."""

_PATIENCE = 600.0  # seconds for which a team may be silent: a first step may plan, and measure the machine

_GRACE = 5.0  # seconds in which a process may end by itself


class TeamError(Exception):
    """A team cannot do what it was told; says why."""


@dataclass(frozen=True)
class Rank:
    """One process of a team, and how many there are."""

    number: int
    size: int


@dataclass(frozen=True)
class Checked:
    """A process's share in the loss of a step, and in the squares of its gradients."""

    loss: float
    squares: float


@dataclass(frozen=True)
class _Failure:
    reason: str


class Worker(ABC):
    """What a process of a team does.

    Attributes:
        problem: that it works on.
    """

    problem: Problem

    @abstractmethod
    def gradients(self) -> float:
        """Forward, loss and backward of all micro-batches: this process's share in the loss."""

    def step(self) -> None:
        """A step; its gradients are dropped."""
        self.gradients()
        self.problem.model.zero_grad(set_to_none=True)

    def check(self) -> Checked:
        """A step, and what came out of it."""
        found = Checked(self.gradients(), self.problem.squares())
        self.problem.model.zero_grad(set_to_none=True)
        return found

    def pace(self) -> float:
        """How much slower this machine is now than the one that it knows; 1 where it knows none."""
        return 1.0

    def facts(self) -> dict[str, Any]:
        """What is worth knowing of how it works; after a step."""
        return {}


Maker = Callable[[Case, Rank], Worker]


class Team:
    """Processes, each with a worker; what a worker of ranks needs is in its environment, as `torchrun` has it.

    Raises:
        TeamError: by all that tells it to do something.
    """

    def __init__(self, make: Maker, case: Case, size: int = 1, tuned: bool = True) -> None:
        """Start the processes, and wait until they are ready.

        Args:
            make: makes the worker of a process, in it.
            case: to work on.
            size: number of processes.
            tuned: they keep freed memory, and each of several keeps to its own core, as devices of torchplace do.
        """
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        for number, variables in enumerate(environments(size)):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make, case, Rank(number, size), tuned), daemon=True)
            with environment({**variables, **(KEPT_MEMORY if tuned else {})}):
                process.start()
            theirs.close()  # or its end would not be seen
            self._connections.append(ours)
            self._processes.append(process)
        self._replies()

    def step(self) -> None:
        """All do a step, at the same time."""
        self._tell("step")

    def check(self) -> Checked:
        """All do a step: the whole loss, and the squares of all gradients."""
        found = self._tell("check")
        return Checked(sum(c.loss for c in found), sum(c.squares for c in found))

    def pace(self) -> float:
        """The mean of what all say at the same time."""
        found: list[float] = self._tell("pace")
        return sum(found) / len(found)

    def facts(self) -> dict[str, Any]:
        """What the first knows."""
        found: dict[str, Any] = self._tell("facts")[0]
        return found

    def close(self) -> None:
        """End the processes, whatever they do."""
        for connection in self._connections:
            connection.close()  # who waits for an order sees the end
        for process in self._processes:
            process.join(timeout=_GRACE)
            process.terminate()
            process.join()

    def _tell(self, what: str) -> list[Any]:
        for connection in self._connections:
            connection.send(what)
        return self._replies()

    def _replies(self) -> list[Any]:
        found: dict[Connection, Any] = {}
        try:
            while missing := [c for c in self._connections if c not in found]:
                found.update(_replies(missing))
        except TeamError:
            self.close()  # the others wait for the one that failed
            raise
        return [found[c] for c in self._connections]


def _replies(connections: list[Connection]) -> Iterator[tuple[Connection, Any]]:
    ready = wait(connections, _PATIENCE)
    if not ready:
        raise TeamError(f"no reply for {_PATIENCE:.0f} s")
    for connection in (c for c in connections if c in ready):
        try:
            reply = connection.recv()
        except (EOFError, OSError):
            reply = _Failure("a process ended")
        if isinstance(reply, _Failure):
            raise TeamError(reply.reason)
        yield connection, reply


def _serve(connection: Connection, make: Maker, case: Case, rank: Rank, tuned: bool) -> None:
    """In a process: make the worker, then do what is told."""
    torch.set_num_threads(1)
    try:
        worker = make(case, rank)
        if tuned and rank.size > 1:
            _keep_to_core(rank.number)
        connection.send(None)
        while True:
            connection.send(getattr(worker, connection.recv())())
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        with suppress(BrokenPipeError):  # where another has failed before, nobody listens
            connection.send(_Failure(_reason(error)))


def _reason(error: BaseException) -> str:
    """In a line; of what others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {_line(str(error))}"


def _line(text: str, length: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def _keep_to_core(number: int) -> None:
    """Only this thread: those that carry messages were started before, and run where there is room."""
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Within, processes start with these variables."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
