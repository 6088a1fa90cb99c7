"""Measured costs: what the store says that ops took on the device, looked up by signature."""

from __future__ import annotations

from torchplace.compiler.graph import Op
from torchplace.placement.cost.compute import ComputeCost, Roofline, threads_used
from torchplace.placement.cost.signature import signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.topology.device import Device


class Measured:
    """Time of an op as it was measured on a device of this sort; what was not measured is asked of another cost.

    The store is read when a sort of device is first asked for, and not again.

    Args:
        store: of measured costs.
        fallback: for ops that the store lacks; counted in `missing`.
        name: what the option `cost` calls it.
    """

    def __init__(
        self, store: CostStore | None = None, fallback: ComputeCost | None = None, name: str = "measured"
    ) -> None:
        self.store, self.name = store or CostStore(), name
        self.fallback: ComputeCost = fallback or Roofline()
        self.missing: set[str] = set()
        self._tables: dict[Device, dict[str, float]] = {}

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`."""
        key = signature_key(op)
        found = self._table(device).get(key)
        if found is None:
            self.missing.add(key)
            return self.fallback.time(op, device)
        return found

    def demand(self, op: Op, device: Device) -> float:
        """Cores that it keeps busy (`threads_used`)."""
        return threads_used(op, device)

    def _table(self, device: Device) -> dict[str, float]:
        table = self._tables.get(device)
        if table is None:
            table = self._tables[device] = self.store.seconds(DeviceKey.of(device))
        return table
