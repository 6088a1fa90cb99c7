"""Which ranks of a job are processes of this host, and the connections to them."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

_POLL = 0.01
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = Path("/proc/self/ns/net")

Hear = Callable[[str, int], str]
"""Waits for a note, by its key, of a rank."""


class Neighbours:
    """The ranks that this one can share memory with: of the same host, where that has what it takes (Linux).

    Each rank leaves a note of where it is. Processes that see different networks count as different hosts, since they
    cannot be connected.

    Attributes:
        ranks: the neighbours.
    """

    def __init__(self, rank: int, size: int, say: Callable[[str, str], None], hear: Hear, timeout: float) -> None:
        """Learn from the others' notes; all ranks do so at the same time.

        Args:
            rank: of this process.
            size: how many ranks there are.
            say: leaves a note, by its key.
            hear: waits for a note, by its key, of a rank.
            timeout: seconds that a neighbour is waited for.
        """
        self._rank, self._timeout = rank, timeout
        self._listening: dict[int, socket.socket] = {}
        here, token = _host(), secrets.token_hex(16)
        say(f"host/{rank}", json.dumps([here, token]))
        others = [other for other in range(size) if other != rank]
        notes = {other: json.loads(hear(f"host/{other}", other)) for other in others} if here else {}
        self._tokens = {other: token for other, (host, token) in notes.items() if host == here}
        self.ranks = list(self._tokens)
        for other in self.ranks:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listening.bind(_address(token, other))
            listening.listen(1)
            self._listening[other] = listening

    def connect(self, rank: int) -> socket.socket:
        """A connection to send through.

        Raises:
            OSError: the neighbour does not listen.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        until = monotonic() + self._timeout
        while True:
            try:
                connection.connect(_address(self._tokens[rank], self._rank))
                return connection
            except OSError:  # it has left its note, and will listen in a moment
                if monotonic() > until:
                    raise
                sleep(_POLL)

    def accept(self, rank: int) -> socket.socket:
        """A connection to receive through, when the neighbour has made it."""
        with self._listening.pop(rank) as listening:
            connection, _ = listening.accept()
            return connection


def _host() -> str:
    """What processes that can share memory have in common; "" where they cannot."""
    if not (hasattr(os, "memfd_create") and hasattr(socket, "send_fds") and _BOOT.exists() and _NETWORK.exists()):
        return ""
    return f"{_BOOT.read_text().strip()} {_NETWORK.stat().st_ino} {os.getuid()}"


def _address(token: str, sender: int) -> str:
    """A name that only those know who have read the receiver's note; no file stands for it."""
    return f"\0torchplace-{token}-{sender}"
