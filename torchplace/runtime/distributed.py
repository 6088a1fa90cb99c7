"""One process for each device: each rank runs its own list of a program, and torch.distributed moves what goes between.

The ranks are started by torchrun. Between accelerators values go by their own backend of torch.distributed, such as
NCCL. Else they go through the host: between ranks of one host through memory that they share, between hosts over gloo.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import queue
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import sleep
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from torchplace.compiler.graph import Graph
from torchplace.compiler.program import Program
from torchplace.compiler.verify import verify
from torchplace.errors import OptionError, RankError
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.accelerator import own_device
from torchplace.runtime.interpreter import ABORT, Aborted
from torchplace.runtime.links import Links
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.mail import GroupPost, Inbox, Outbox, Posts, SharedPost
from torchplace.runtime.neighbours import Neighbours
from torchplace.runtime.rank_executable import RankExecutable
from torchplace.runtime.ranks import initialise
from torchplace.runtime.watch import Watch
from torchplace.runtime.wire import Wire

_POLL = 0.02

FAULT_TIMEOUT = 30.0
"""Seconds after which a rank that does not go on counts as hanging."""


class DistributedRuntime(LocalRuntime):
    """Runs this rank's part of programs.

    Attributes:
        rank: of this process; it runs the topology's device of this number.
        device: the name of that.
        watch: over all ranks.
        store: of the job, for notes that ranks leave each other.
    """

    def __init__(self, topology: Topology, timeout: float = FAULT_TIMEOUT) -> None:
        """Meet the other ranks.

        Args:
            topology: with a device for each rank.
            timeout: seconds after which a rank that does not go on counts as hanging.

        Raises:
            OptionError: the topology has another number of devices than there are ranks.
            TopologyError: not all ranks came.
        """
        if not dist.is_initialized():
            initialise(max(10 * timeout, 300.0), "gloo")
        self.rank, size = dist.get_rank(), dist.get_world_size()
        if size != len(topology.devices):
            raise OptionError(
                f"topology {topology.name!r} has {len(topology.devices)} devices, and there are {size} ranks; expected "
                "as many: start one process for each device, or pass a topology that has a device for each rank"
            )
        here = own_device()
        super().__init__(topology, dict.fromkeys(topology.device_names, here))
        self.names = topology.device_names
        self.device = self.names[self.rank]
        store = distributed_c10d._get_default_store()
        count = store.add(f"torchplace/runtime/{self.rank}", 1)
        self.store = distributed_c10d.PrefixStore(f"torchplace/{count}", store)
        watched = distributed_c10d.PrefixStore(f"torchplace/{count}", store.clone())  # type: ignore[attr-defined]  # not in the stub
        self.watch = Watch(watched, self.rank, size, timeout)
        self.group = _host_group()
        hear = functools.partial(self.hear, doing="meeting")
        self.neighbours = Neighbours(self.rank, size, self.store.set, hear, timeout)
        self.links = Links(self)
        atexit.register(self._leave)
        self._outboxes: dict[int, Outbox] = {}
        self._inboxes: dict[int, Inbox] = {}

    def prepare(self, program: Program, graph: Graph, keys: Mapping[str, str] | None = None) -> RankExecutable:
        """Verify a program and compile this rank's segments."""
        verify(program)
        self.links.connect(program)
        return RankExecutable(self, program, graph, keys)

    def outbox(self, device: str) -> Outbox:
        """What sends to the rank of a device."""
        rank = self.names.index(device)
        if rank not in self._outboxes:
            self._outboxes[rank] = Outbox(rank, self._posts(rank), self._lost)
        return self._outboxes[rank]

    def inbox(self, device: str) -> Inbox:
        """What receives from the rank of a device."""
        rank = self.names.index(device)
        if rank not in self._inboxes:
            self._inboxes[rank] = Inbox(rank, self._posts(rank), self._lost)
        return self._inboxes[rank]

    def _posts(self, rank: int) -> Posts:
        near = rank in self.neighbours.ranks
        host = SharedPost(rank, self.neighbours) if near else GroupPost(rank, self.group)
        return Posts(host, self.links.post(rank), self.links.device)

    def drain(self) -> None:
        """Wait until all that was to be sent has been.

        Raises:
            RankError: another rank has failed meanwhile.
        """
        for rank, outbox in self._outboxes.items():
            self.watch.at("sending", rank)
            while not outbox.drained(0.5):
                if self.watch.reason:
                    raise self.watch.error()

    def hear(self, key: str, rank: int, doing: str) -> str:
        """Wait for a note that a rank leaves in the job's store.

        Raises:
            RankError: a rank has failed meanwhile.
        """
        self.watch.at(doing, rank)
        while not self.store.check([key]):
            if self.watch.reason:
                raise self.watch.error()
            sleep(_POLL)
        self.watch.at("")
        return self.store.get(key).decode()

    def exchange(self, row: torch.Tensor, doing: str) -> list[torch.Tensor]:
        """What each rank gives, by rank: rows of numbers, of the same length and type everywhere.

        Raises:
            RankError: another rank has failed.
        """
        wire = Wire.like(row)
        others = [rank for rank in range(len(self.names)) if rank != self.rank]
        came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for rank in others:
            self.inbox(self.names[rank]).expect([(rank, wire)], came)
            self.outbox(self.names[rank]).put(wire.pack(row))
        rows: dict[Any, Any] = {self.rank: row.cpu()}
        self.take(came, {rank: rank for rank in others}, rows, doing)
        self.drain()
        self.watch.at("")
        return [rows[rank] for rank in range(len(self.names))]

    def take(
        self, channel: queue.SimpleQueue[Any], awaited: Mapping[Any, int], into: dict[Any, Any], doing: str
    ) -> None:
        """Take values that other ranks send, as they come.

        Args:
            channel: into which they come.
            awaited: what they are called -> the rank that sends it.
            into: what they are called -> the value; is filled.
            doing: what this is, for who watches.

        Raises:
            RankError: another rank has failed.
        """
        abort, left = functools.partial(channel.put, ABORT), dict(awaited)
        self.watch.listen(abort)
        try:
            while left:
                self.watch.at(doing, next(iter(left.values())))
                item = channel.get()
                if item is ABORT:
                    raise self.watch.error()
                name, parcel = item
                into[name] = parcel.tensor
                del left[name]
        finally:
            self.watch.ignore(abort)

    def _leave(self) -> None:
        """End the watch; or, once something has failed, this process, without Python's own end.

        A thread of ours may still be in torch.distributed, waiting for a rank that sends no more. It cannot be woken,
        and Python, at its end, would unwind it in the midst of C++, which aborts the process.
        """
        if self.watch.reason:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        self.watch.stop()
        for outbox in self._outboxes.values():
            outbox.end()
        for inbox in self._inboxes.values():
            inbox.end()
        self.links.end()

    @contextmanager
    def all_fail(self, what: str) -> Iterator[None]:
        """Within, what goes wrong on this rank is told to all, and what has gone wrong elsewhere is raised.

        Raises:
            RankError: a rank has failed, died or hangs; the same on all ranks.
        """
        watch, cause = self.watch, None
        if watch.reason:
            raise watch.error()
        try:
            yield
        except RankError:
            raise
        except Aborted:
            pass
        except Exception as error:
            cause = error
            text = " ".join(str(error).split()) or type(error).__name__
            watch.fail(f"rank {self.rank} ({what}) failed at '{watch.doing}': {text}")
        finally:
            watch.at("")
        if cause is not None or watch.reason:
            raise watch.error() from cause

    def _lost(self, rank: int, error: BaseException) -> None:
        text = " ".join(str(error).split())
        doing = self.watch.doing or "between steps"
        self.watch.fail(
            f"rank {rank} ({self.names[rank]}) is lost: rank {self.rank} found so at '{doing}': {text[:200]}"
        )


def _host_group() -> dist.ProcessGroup:
    """A group of all ranks that moves what is in host memory."""
    world = dist.group.WORLD
    assert world is not None
    if "gloo" in str(dist.get_backend_config()):
        return world
    group: dist.ProcessGroup = dist.new_group(backend="gloo")
    return group
