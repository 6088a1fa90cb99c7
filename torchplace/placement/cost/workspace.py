"""What ops take for themselves while they run, and give back: as measured, else as estimated."""

from __future__ import annotations

from collections.abc import Callable

from torchplace.compiler.graph import Op
from torchplace.placement.cost import cpu_workspace
from torchplace.placement.cost.signature import signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.topology.device import Device

WorkspaceCost = Callable[[Op, Device], int]
"""Bytes that an op takes on a device beyond its inputs and results."""


def estimated(op: Op, device: Device) -> int:
    """By the formulas of `cpu_workspace`; of devices that are no CPUs nothing is known, and nothing is counted.

    Cost: constant; what was found is kept with the op.
    """
    if device.kind != "cpu":
        return 0
    threads = DeviceKey.of(device).threads if device.threads is None else device.threads
    known: dict[int, int] = op.__dict__.setdefault("_workspaces", {})
    if threads not in known:
        known[threads] = cpu_workspace.estimate(op, threads)
    return known[threads]


class Workspaces:
    """What the store says, of ops that were measured on this sort of device; else `estimated`.

    The store is read when a sort of device is first asked for, and not again.
    """

    def __init__(self, store: CostStore) -> None:
        """Ask `store`."""
        self.store = store
        self._tables: dict[tuple[str, int | None], dict[str, int]] = {}

    def __call__(self, op: Op, device: Device) -> int:
        """Bytes that an op takes on a device beyond its inputs and results."""
        sort = (device.kind, device.threads)
        if sort not in self._tables:
            self._tables[sort] = self.store.workspaces(DeviceKey.of(device))
        found = self._tables[sort].get(signature_key(op))
        return estimated(op, device) if found is None else found
