"""Memory that two processes of one host share: one puts values in, the other uses them where they lie."""

from __future__ import annotations

import mmap
import os
import socket
import struct
import weakref
from collections import deque

import numpy as np
import torch

SEGMENT = 8 * 2**20
"""Bytes of a piece of shared memory, unless a value needs more."""
_FLAGS = 4096  # bytes at the beginning of each piece, one for each of its blocks: whether it is in use
_FORM = struct.Struct("<IIQQ")  # the piece, the block in it, where that begins, and the bytes of the value
_ALIGNED = 64


class Segment:
    """A piece of shared memory, as one of the processes sees it."""

    def __init__(self, handle: int, nbytes: int) -> None:
        """Map a file in memory, all of whose pages are there already."""
        self.memory = np.frombuffer(mmap.mmap(handle, nbytes), dtype=np.uint8)
        self.flags = self.memory[:_FLAGS]
        self.blocks, self.end = 0, _FLAGS

    def room(self, nbytes: int) -> bool:
        """Whether there is room for another block."""
        return self.blocks < _FLAGS and self.end + nbytes <= self.memory.nbytes


class Sender:
    """Puts rows of bytes into memory that it shares with one other process.

    A block of memory is used again when the receiver has no value in it any more: the receiver says so by a flag that
    stands in the shared memory. So there are as many blocks as values are alive there at a time. Where there is none
    left, more memory is shared.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Through a connection that keeps messages apart, and passes file descriptors."""
        self._connection = connection
        self._segments: list[Segment] = []
        self._untold: list[int] = []  # file descriptors of segments that the receiver does not know yet
        self._free: dict[int, deque[tuple[int, int, int]]] = {}  # size -> blocks, those used longest ago first

    def send(self, row: torch.Tensor) -> None:
        """Copy a row of bytes to where the receiver can use it, and tell it.

        Raises:
            OSError: the receiver is gone, or there is no memory left.
        """
        number, block, begin = self._block(_rounded(row.nbytes))
        segment = self._segments[number]
        np.copyto(segment.memory[begin : begin + row.nbytes], row.numpy())
        segment.flags[block] = 1
        note = _FORM.pack(number, block, begin, row.nbytes)
        if self._untold:
            socket.send_fds(self._connection, [note], self._untold)
            os.close(self._untold.pop())
        else:
            self._connection.send(note)

    def _block(self, size: int) -> tuple[int, int, int]:
        """A block that nobody uses."""
        blocks = self._free.setdefault(size, deque())
        for _ in range(len(blocks)):
            number, block, _ = found = blocks[0]
            blocks.rotate(-1)
            if not self._segments[number].flags[block]:
                return found
        if not self._segments or not self._segments[-1].room(size):
            self._share_more(size)
        segment = self._segments[-1]
        made = len(self._segments) - 1, segment.blocks, segment.end
        segment.blocks, segment.end = segment.blocks + 1, segment.end + size
        blocks.append(made)
        return made

    def _share_more(self, size: int) -> None:
        nbytes = max(SEGMENT, _FLAGS + size)
        self._untold.append(os.memfd_create("torchplace", os.MFD_CLOEXEC))
        os.posix_fallocate(self._untold[-1], 0, nbytes)  # what is not there later ends the process with SIGBUS
        self._segments.append(Segment(self._untold[-1], nbytes))


class Receiver:
    """Receives rows of bytes that another process puts into shared memory."""

    def __init__(self, connection: socket.socket) -> None:
        """Through a connection that keeps messages apart, and passes file descriptors."""
        self._connection = connection
        self._segments: list[Segment] = []

    def receive(self) -> torch.Tensor:
        """Wait for the next row: it lies in the shared memory, which is the sender's again when the row is dropped.

        Raises:
            OSError: the sender is gone.
        """
        note, handles, _, _ = socket.recv_fds(self._connection, _FORM.size, 1)
        if not note:
            raise ConnectionResetError("the process that sends has ended")
        number, block, begin, nbytes = _FORM.unpack(note)
        for handle in handles:
            self._segments.append(Segment(handle, os.fstat(handle).st_size))
            os.close(handle)
        segment = self._segments[number]
        row = segment.memory[begin : begin + nbytes]
        weakref.finalize(row, _release, segment.flags, block).atexit = False
        return torch.from_numpy(row)


def _release(flags: np.ndarray, block: int) -> None:
    flags[block] = 0


def _rounded(nbytes: int) -> int:
    """Up to a size that few values differ from: blocks are used again by those of the same size."""
    step = max(_ALIGNED, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step
