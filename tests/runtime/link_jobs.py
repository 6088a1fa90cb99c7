"""What ranks with a simulated accelerator each do; its memory goes between them by a backend of its own.

Importing this registers both for the rest of the process.
"""

from __future__ import annotations

from datetime import timedelta
from time import sleep
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F

import torchplace as tp
from tests import simulated
from tests.runtime.distributed_jobs import Net, batch

BACKEND = "simlink"
moved: list[tuple[str, int, int]] = []
"""What has gone through links here: direction, rank within the group, bytes."""


class _Done(dist._Work):
    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        return True


class Link(dist.ProcessGroup):
    """Moves device memory in the order of the current stream, one thing behind the other, through the job's store."""

    def __init__(self, store: dist.Store, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)
        self._store, self._rank, self._counts = store, rank, {"send": 0, "recv": 0}
        assert size == 2

    def send(self, tensors: list[torch.Tensor], dst: int, tag: int) -> dist._Work:
        (row,) = tensors
        assert row.device.type == simulated.NAME
        self._store.set(self._key("send", row, dst), bytes(row.cpu().numpy()))
        return _Done()

    def recv(self, tensors: list[torch.Tensor], src: int, tag: int) -> dist._Work:
        (row,) = tensors
        assert row.device.type == simulated.NAME
        key = self._key("recv", row, src)
        while not self._store.check([key]):  # the connection to the store is for all threads: none may wait in it
            sleep(0.001)
        row.copy_(torch.frombuffer(bytearray(self._store.get(key)), dtype=torch.uint8))
        return _Done()

    def abort(self) -> None:
        print("ABORTED", flush=True)

    def _key(self, what: str, row: torch.Tensor, other: int) -> str:
        moved.append((what, other, row.nbytes))
        self._counts[what] += 1
        return f"{self._rank if what == 'send' else other}/{self._counts[what]}"


def train(steps: int = 4, linked: bool = True, until_lost: bool = False, **options: Any) -> dict[str, Any]:
    """Train; gives losses, what went through links, and what was done on the device without the waits it needs."""
    simulated.load()
    if linked:
        dist.Backend.register_backend(BACKEND, lambda *args: Link(*args), devices=[simulated.NAME])
    torch.manual_seed(0)
    model = Net()
    step = tp.compile(
        model, loss_fn=F.cross_entropy, microbatches=4, cost="roofline", solver="random", topology="local:2", **options
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for i in range(100_000 if until_lost else steps):
        loss = step(*batch(i))
        tp.clip_grad_norm_(step, 0.5)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if i == 3:
            print("READY", flush=True)
    here = {str(p.device) for p in model.parameters() if p.device.type != "meta"}
    return {"losses": losses, "moved": moved, "here": sorted(here), "faults": simulated.take_faults()}
