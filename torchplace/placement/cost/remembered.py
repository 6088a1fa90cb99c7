"""A compute cost that is asked once for each op and sort of device."""

from __future__ import annotations

from dataclasses import replace

from torchplace.compiler.graph import Op
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.topology.device import Device


class Remembered:
    """Remembers what another cost said: searches ask for the same ops again and again.

    Devices that differ in name and `torch_device` only count as one sort.

    Cost: one look-up, after the first time.

    Args:
        cost: what is asked; its answers must not change meanwhile.
    """

    def __init__(self, cost: ComputeCost) -> None:
        self.cost, self.name = cost, cost.name
        self._sorts: dict[Device, tuple[dict[Op, float], dict[Op, float]]] = {}
        self._tables: dict[int, tuple[Device, tuple[dict[Op, float], dict[Op, float]]]] = {}

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`."""
        known, _ = self._of(device)
        if op not in known:
            known[op] = self.cost.time(op, device)
        return known[op]

    def demand(self, op: Op, device: Device) -> float:
        """How much it asks meanwhile of what co-running devices share."""
        _, known = self._of(device)
        if op not in known:
            known[op] = self.cost.demand(op, device)
        return known[op]

    def _of(self, device: Device) -> tuple[dict[Op, float], dict[Op, float]]:
        # By identity first: to hash a device costs more than all else here. It is kept, so that its id stays its own.
        found = self._tables.get(id(device))
        if found is None:
            sort = replace(device, name="any", torch_device="cpu")
            found = self._tables[id(device)] = device, self._sorts.setdefault(sort, ({}, {}))
        return found[1]
