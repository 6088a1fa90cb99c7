"""Measured costs: what the store says that ops took on the device, looked up by signature."""

from __future__ import annotations

from torchplace.compiler.graph import Op
from torchplace.placement.cost.compute import ComputeCost, Roofline
from torchplace.placement.cost.signature import signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.topology.device import Device

SPLIT = 0.1
"""An op whose times with one thread and with more differ by more than this share is taken to be split over threads."""


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
        self._alone: dict[Device, dict[str, float]] = {}

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`."""
        key = signature_key(op)
        found = self._table(device).get(key)
        if found is None:
            self.missing.add(key)
            return self.fallback.time(op, device)
        return found

    def demand(self, op: Op, device: Device) -> float:
        """Cores that it keeps busy (`cores_kept_busy`)."""
        if device.kind != "cpu" or device.threads == 1:
            return 1.0
        key = signature_key(op)
        found, alone = self._table(device).get(key), self._single(device).get(key)
        if found is None or alone is None:
            return self.fallback.demand(op, device)
        return cores_kept_busy(found, alone, device)

    def _table(self, device: Device) -> dict[str, float]:
        table = self._tables.get(device)
        if table is None:
            table = self._tables[device] = self.store.seconds(DeviceKey.of(device))
        return table

    def _single(self, device: Device) -> dict[str, float]:
        table = self._alone.get(device)
        if table is None:
            table = self._alone[device] = self.store.seconds(DeviceKey.of(device, 1))
        return table


def cores_kept_busy(seconds: float, alone: float, device: Device) -> float:
    """What an op takes with one thread over what it takes with the device's threads; at least 1.

    An op that is split over threads (so that both times differ) takes `Device.crowding` longer where it shares the
    cores, for its parts wait for each other: as if it asked for more of them.

    Args:
        seconds: with the device's threads.
        alone: with one.
        device: whose threads are several.
    """
    if abs(alone - seconds) < SPLIT * seconds or seconds <= device.launch_overhead:
        return 1.0
    return (max(alone, seconds) + device.crowding) / seconds
