"""The environment of ranks, as torchrun makes it, for those that are started without it."""

from __future__ import annotations

import socket
from contextlib import closing


def environments(size: int, each: int = 0, address: str = "127.0.0.1") -> list[dict[str, str]]:
    """What each rank of a job has in its environment.

    Args:
        size: number of ranks.
        each: of them on one machine; 0 for all.
        address: of the machine of rank 0.
    """
    each = each or size
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(each), "MASTER_ADDR": address, "MASTER_PORT": port}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank % each)} for rank in range(size)]
