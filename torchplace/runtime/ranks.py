"""The ranks of a job that torchrun started, for work in which they take turns: the first to fail stops all of them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from torchplace.errors import OptionError, TopologyError

_T = TypeVar("_T")
_POLL = 0.05  # seconds; those who wait must not disturb what is measured
_FAILED = "failed"


def under_torchrun() -> bool:
    """Whether this process is one of several ranks."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size() > 1
    return int(os.environ.get("WORLD_SIZE", "1") or 1) > 1


def leads() -> bool:
    """Whether this process is rank 0, or the only one."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank() == 0
    return int(os.environ.get("RANK", "0") or 0) == 0


class Ranks:
    """All ranks, as one of them sees them. They pass each other notes in the job's key-value store.

    A rank that fails leaves a note; the others find it while they wait. One that dies, or hangs, is missed by whoever
    waits for it. Either way all of them raise.

    Attributes:
        rank: of this process.
        size: how many there are.
        timeout: seconds that a rank is waited for.
    """

    def __init__(self, store: distributed_c10d.Store, rank: int, size: int, timeout: float) -> None:
        """See `join`."""
        self.store, self.rank, self.size, self.timeout = store, rank, size, timeout

    def say(self, key: str, value: object) -> None:
        """Leave a note for all: anything that JSON can hold."""
        self.store.set(key, json.dumps(value))

    def hear(self, key: str, of: str) -> Any:
        """Wait for a note and read it; `of` says in an error who should have left it.

        Raises:
            TopologyError: another rank failed, or there was no such note in time.
        """
        end = monotonic() + self.timeout
        while not self._has(key):
            if self._has(_FAILED):
                raise TopologyError(self._read(_FAILED))
            if monotonic() > end:
                raise TopologyError(f"{of} did not answer within {self.timeout:g} s; is it still alive?")
            sleep(_POLL)
        return self._read(key)

    def _has(self, key: str) -> bool:
        with _store_there():
            return bool(self.store.check([key]))

    def _read(self, key: str) -> Any:
        with _store_there():
            return json.loads(self.store.get(key))

    def gather(self, key: str, value: object) -> list[Any]:
        """What each rank gives, by rank."""
        self.say(f"{key}/{self.rank}", value)
        return [self.hear(f"{key}/{rank}", f"rank {rank}") for rank in range(self.size)]

    def turn(self, key: str, members: Sequence[int], work: Callable[[], _T]) -> list[_T]:
        """Let some ranks do their work at the same time while the others wait; returns what each of them gives.

        Raises:
            TopologyError: one of them failed, or took longer than the timeout.
        """
        if self.rank in members:
            self.say(f"{key}/{self.rank}", work())
        return [self.hear(f"{key}/{rank}", f"rank {rank}") for rank in members]

    def part(self) -> None:
        """Say good-bye; rank 0, which may hold the store, goes last."""
        self.say(f"bye/{self.rank}", True)
        for rank in range(self.size) if self.rank == 0 else ():
            self.hear(f"bye/{rank}", f"rank {rank}")

    @contextmanager
    def one_fails_all_fail(self) -> Iterator[None]:
        """Within, what goes wrong here is told to the others; what torch.distributed raises becomes an error of ours.

        Raises:
            TopologyError: a transfer failed: the other end has died, or hangs.
        """
        try:
            yield
        except BaseException as error:
            whole = " ".join(str(error).split()) or type(error).__name__
            text = whole if len(whole) <= 300 else f"{whole[:300]}..."
            told = text if isinstance(error, TopologyError) else f"rank {self.rank} ({socket.gethostname()}): {text}"
            self._tell(told)
            if isinstance(error, RuntimeError):
                raise TopologyError(f"measuring between ranks failed: {told}") from error
            raise

    def _tell(self, text: str) -> None:
        with suppress(RuntimeError, TopologyError):  # where the store is gone, so are the others
            if not self._has(_FAILED):
                self.say(_FAILED, f"another rank failed: {text}")


@contextmanager
def _store_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise TopologyError(
            f"the store that the ranks share is gone, and who holds it, rank 0 or torchrun: {text}"
        ) from error


@contextmanager
def join(timeout: float) -> Iterator[Ranks]:
    """Meet the other ranks; torch.distributed is initialised within, if it was not before.

    Args:
        timeout: seconds that a rank is waited for.

    Raises:
        OptionError: the environment is not that of a rank.
        TopologyError: not all ranks came.
    """
    begun = not dist.is_initialized()
    if begun:
        accelerator = torch.accelerator.current_accelerator()
        backend = "gloo" if accelerator is None else dist.get_default_backend_for_device(accelerator)
        initialise(timeout, backend)
    try:
        # Several measurements of one job must not read each other's notes.
        store = distributed_c10d._get_default_store()
        ranks = Ranks(store, dist.get_rank(), dist.get_world_size(), timeout)
        count = store.add(f"torchplace/joined/{ranks.rank}", 1)
        ranks.store = distributed_c10d.PrefixStore(f"torchplace/{count}", store)
        with ranks.one_fails_all_fail():
            yield ranks
    finally:
        if begun:
            dist.destroy_process_group()


def initialise(timeout: float, backend: str) -> None:
    """Let torch.distributed meet the other ranks.

    Args:
        timeout: seconds that a rank is waited for, in this and in all that torch.distributed does.
        backend: its name.

    Raises:
        OptionError: the environment is not that of a rank.
        TopologyError: not all ranks came.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise OptionError(
            f"this is a rank of several, but {', '.join(missing)} is not set; start the ranks with torchrun"
        )
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise TopologyError(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} met no others: {text}") from error
