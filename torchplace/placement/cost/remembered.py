"""A compute cost that is asked once for each op and sort of device."""

from __future__ import annotations

from dataclasses import replace

from torchplace.compiler.graph import Op
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.topology import Topology


class Remembered:
    """Remembers what another cost said: searches ask for the same ops again and again.

    Cost: one look-up, after the first time.

    Args:
        cost: what is asked; its answers must not change meanwhile.
        topology: whose devices may be asked for. Those that differ in name and `torch_device` only count as one sort.
    """

    def __init__(self, cost: ComputeCost, topology: Topology) -> None:
        self.cost, self.name = cost, cost.name
        times: dict[Device, dict[Op, float]] = {}
        demands: dict[Device, dict[Op, float]] = {}
        self._times, self._demands = dict[str, dict[Op, float]](), dict[str, dict[Op, float]]()
        for device in topology.devices:
            sort = replace(device, name="any", torch_device="cpu")
            self._times[device.name] = times.setdefault(sort, {})
            self._demands[device.name] = demands.setdefault(sort, {})

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`."""
        known = self._times[device.name]
        if op not in known:
            known[op] = self.cost.time(op, device)
        return known[op]

    def demand(self, op: Op, device: Device) -> float:
        """How much it asks meanwhile of what co-running devices share."""
        known = self._demands[device.name]
        if op not in known:
            known[op] = self.cost.demand(op, device)
        return known[op]
