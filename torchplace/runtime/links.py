"""Links: between the accelerators of two ranks, by the backend of torch.distributed that moves their memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import torch.distributed as dist

from torchplace.compiler.instructions import Send
from torchplace.compiler.program import Program
from torchplace.runtime.accelerator import link_backend, own_device
from torchplace.runtime.mail import DevicePost

if TYPE_CHECKING:
    from torchplace.runtime.distributed import DistributedRuntime

_log = logging.getLogger(__name__)


class Links:
    """What this rank sends through, and receives through, from device to device.

    A process group of two for each direction in which a program sends: backends keep buffers for each, so that there
    are none for ranks that have nothing to say to each other.

    Attributes:
        device: of this rank.
        backend: its name; "" where values go through the host, which is where not all ranks have the same one.
    """

    def __init__(self, runtime: DistributedRuntime) -> None:
        """Agree with the other ranks on a backend; all do so at the same time."""
        self._runtime, self.device = runtime, own_device()
        self._groups: dict[tuple[int, int], dist.ProcessGroup] = {}
        mine = link_backend(self.device)
        runtime.store.set(f"links/{runtime.rank}", mine)
        ranks = range(len(runtime.names))
        said = {runtime.hear(f"links/{rank}", rank, "meeting") for rank in ranks if rank != runtime.rank}
        self.backend = mine if said <= {mine} else ""
        if self.backend:
            # A device that waits for what a lost rank was to send would keep its process waiting, too.
            runtime.watch.listen(self._abort)

    def connect(self, program: Program) -> None:
        """Make the links that a program needs; every rank that is to have one waits for the other.

        Raises:
            RuntimeError: the other did not come.
        """
        if not self.backend:
            return
        names = self._runtime.names
        pairs = {(names.index(device), names.index(i.to)) for device, i in program if isinstance(i, Send)}
        for pair in sorted(pairs - self._groups.keys()):  # in the same order everywhere, or they would wait in a circle
            if self._runtime.rank in pair:
                self._groups[pair] = self._group(pair)

    def post(self, rank: int) -> DevicePost:
        """To and from a rank."""
        here = self._runtime.rank
        return DevicePost(rank, self.device, lambda sends: self._groups[(here, rank) if sends else (rank, here)])

    def end(self) -> None:
        """Give the links up, when all has been sent."""
        for group in self._groups.values():
            with suppress(RuntimeError, ValueError):  # the caller may have ended torch.distributed
                dist.destroy_process_group(group)

    def _group(self, pair: Sequence[int]) -> dist.ProcessGroup:
        patience = timedelta(seconds=self._runtime.watch.timeout)
        made: dist.ProcessGroup = dist.new_group(
            list(pair), timeout=patience, backend=self.backend, use_local_synchronization=True
        )
        return made

    def _abort(self) -> None:
        for group in list(self._groups.values()):
            try:
                group.abort()
            except Exception as error:  # what cannot be aborted ends with the process
                _log.debug("a link was not aborted: %s", error)
