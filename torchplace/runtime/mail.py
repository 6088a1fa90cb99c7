"""Threads that send to, and receive from, one other rank each: the rank itself never waits for another.

A rank that waits in torch.distributed, or for a connection, cannot be told that a third has failed. Here it waits for
its own threads, which can.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist

from torchplace.runtime.accelerator import Parcel, SideStream, ready
from torchplace.runtime.arena import Receiver, Sender
from torchplace.runtime.neighbours import Neighbours
from torchplace.runtime.wire import OpenWire, Wire

_PATIENCE = 1.0
"""Seconds that the end of the process waits for a thread."""

Lost = Callable[[int, BaseException], None]
"""Is told of a rank that nothing can be sent to, or received from."""


class Post(Protocol):
    """Moves rows of bytes between this rank and another, in order."""

    def send(self, row: torch.Tensor) -> None:
        """Send a row; back when its memory may be used again."""

    def receive(self, nbytes: int) -> torch.Tensor:
        """Wait for the next row, which has so many bytes."""


class GroupPost:
    """Through a process group of torch.distributed."""

    def __init__(self, rank: int, group: dist.ProcessGroup) -> None:
        """To and from a rank of a group that moves what is in host memory."""
        self.rank, self.group = rank, group

    def send(self, row: torch.Tensor) -> None:
        """See `Post`."""
        dist.send(row, group=self.group, group_dst=self.rank)

    def receive(self, nbytes: int) -> torch.Tensor:
        """See `Post`."""
        row = torch.empty(nbytes, dtype=torch.uint8)
        dist.recv(row, group=self.group, group_src=self.rank)
        return row


class SharedPost:
    """Through memory that both ranks have mapped: a row is copied once, into it."""

    def __init__(self, rank: int, neighbours: Neighbours) -> None:
        """To and from a rank of this host."""
        self.rank, self.neighbours = rank, neighbours
        self._sender: Sender | None = None
        self._receiver: Receiver | None = None

    def send(self, row: torch.Tensor) -> None:
        """See `Post`."""
        if self._sender is None:
            self._sender = Sender(self.neighbours.connect(self.rank))
        self._sender.send(row)

    def receive(self, nbytes: int) -> torch.Tensor:
        """See `Post`."""
        if self._receiver is None:
            self._receiver = Receiver(self.neighbours.accept(self.rank))
        row = self._receiver.receive()
        assert row.nbytes == nbytes, (row.nbytes, nbytes)  # both ends know the program
        return row


class DevicePost:
    """From device memory to device memory, through a group of torch.distributed for each direction.

    A backend of accelerators does what it is told on streams, one thing behind the other: two ranks that both send
    before they receive would wait for each other, had they one group for both directions.
    """

    def __init__(self, rank: int, device: torch.device, group: Callable[[bool], dist.ProcessGroup]) -> None:
        """To and from a rank; `group` gives the group through which this rank sends (True) or receives (False)."""
        self.rank, self.device, self.group = rank, device, group

    def send(self, row: torch.Tensor) -> None:
        """See `Post`; back when it stands in the current stream."""
        dist.send(row, self.rank, group=self.group(True))

    def receive(self, nbytes: int) -> torch.Tensor:
        """See `Post`; the row is complete behind what stands in the current stream."""
        row = torch.empty(nbytes, dtype=torch.uint8, device=self.device)
        dist.recv(row, self.rank, group=self.group(False))
        return row


class Posts:
    """The ways to and from one rank: for what is in host memory, and for what goes from device to device."""

    def __init__(self, host: Post, direct: Post, device: torch.device) -> None:
        """Of a rank, to and from a device of this one."""
        self.host, self.direct, self.side = host, direct, SideStream(device)

    def send(self, row: torch.Tensor, behind: torch.Event | None, direct: bool) -> None:
        """Send a row that is complete behind an event; back when its memory may be used again."""
        with self.side.current(behind):
            if direct:
                self.direct.send(row)
            else:
                self.host.send(row.cpu())

    def receive(self, wire: Wire | OpenWire) -> Parcel:
        """Wait for the next value."""
        with self.side.current():
            value = wire.come(self._row)
        return self.side.parcel(value)

    def _row(self, nbytes: int, direct: bool) -> torch.Tensor:
        post = self.direct if direct else self.host
        return post.receive(nbytes) if nbytes else torch.empty(0, dtype=torch.uint8)


class Outbox:
    """Sends rows of bytes to one rank, in order."""

    def __init__(self, rank: int, posts: Posts, lost: Lost) -> None:
        """Start the thread."""
        self.rank, self.posts, self.lost = rank, posts, lost
        self._waiting: queue.SimpleQueue[tuple[torch.Tensor, torch.Event | None, bool] | None] = queue.SimpleQueue()
        self._count, self._changed = 0, threading.Condition()
        self._thread = threading.Thread(target=self._loop, name=f"torchplace to rank {rank}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let the thread end when it has sent all."""
        self._waiting.put(None)
        self._thread.join(_PATIENCE)

    def put(self, row: torch.Tensor, direct: bool = False) -> None:
        """Send it when all before it has been sent. Its memory must stay as it is until then.

        Args:
            row: what this thread has given its device so far makes it.
            direct: from device to device (`Wire.direct`).
        """
        with self._changed:
            self._count += 1
        self._waiting.put((row, ready(row.device), direct))

    def drained(self, seconds: float) -> bool:
        """Whether all has been sent, or is within some seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, seconds)

    def _loop(self) -> None:
        try:
            while (item := self._waiting.get()) is not None:
                if item[0].numel():
                    self.posts.send(*item)
                del item
                with self._changed:
                    self._count -= 1
                    self._changed.notify_all()
        except BaseException as error:
            self.lost(self.rank, error)


Expected = tuple[Any, Wire | OpenWire]
"""What a value is called, and how it comes."""


class Inbox:
    """Receives what one rank sends, in order."""

    def __init__(self, rank: int, posts: Posts, lost: Lost) -> None:
        """Start the thread."""
        self.rank, self.posts, self.lost = rank, posts, lost
        self._asked: queue.SimpleQueue[tuple[Sequence[Expected], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=f"torchplace from rank {rank}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let the thread end when all has come."""
        self._asked.put(None)
        self._thread.join(_PATIENCE)

    def expect(self, values: Sequence[Expected], channel: queue.SimpleQueue[Any]) -> None:
        """Receive these values next, and put each into a channel when it has come."""
        self._asked.put((values, channel))

    def _loop(self) -> None:
        try:
            while (asked := self._asked.get()) is not None:
                values, channel = asked
                for name, wire in values:
                    channel.put((name, self.posts.receive(wire)))
                del values, channel, asked
        except BaseException as error:
            self.lost(self.rank, error)
