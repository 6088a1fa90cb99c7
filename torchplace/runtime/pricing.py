"""What the option `cost` means for a captured graph: the compute costs that its plan is made with."""

from __future__ import annotations

from dataclasses import replace

from torchplace.compiler.capture import Captured
from torchplace.errors import CostError
from torchplace.placement.cost.compiled import Compiled
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.cost.measured import Measured
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.cost.workspace import Workspaces
from torchplace.placement.planning import Request
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.op_times import is_here, measure_ops, missing, sorts
from torchplace.runtime.op_workspaces import measure_workspaces
from torchplace.runtime.progress import telling

COSTS = ("auto", "roofline", "measured", "fitted")
"""The sources of compute costs."""


def priced(request: Request, captured: Captured) -> Request:
    """A request with the costs that its `source` stands for.

    - `roofline`: from the figures of the devices alone.
    - `measured`: every op is looked up in the store; what it lacks is timed now, on the devices that are here. Where
      segments are compiled, they are timed once a plan says what they are (`compiled_times`).
    - `fitted`: what the store lacks is predicted by regression from what it has. An empty store is filled first, with
      the ops of a set of small models.
    - `auto`: measured where the store knows every op already, else the roofline. Nothing is timed.

    Whatever the source, what ops take while they run is as measured where the store knows it; `measured` measures it.

    Raises:
        CostError: costs were asked for that are not known, of devices that are not here.
    """
    store, topology = CostStore(), request.topology
    request = replace(request, workspace=Workspaces(store))
    if request.source == "measured":
        _require_known(captured, topology, store)
        with telling("timing the ops") as told:
            measure_ops(captured, topology, store, on_progress=told)
        measure_workspaces(captured, topology, store)
        measured = Measured(store)
        return replace(request, cost=Compiled(measured) if request.codegen == "inductor" else measured)
    if request.source == "fitted":
        from torchplace.placement.cost.fitted import Fitted
        from torchplace.runtime.calibration_set import fill_store

        with telling("timing ops of small models, once") as told:
            fill_store(topology, store, on_progress=told)
        return replace(request, cost=Measured(store, Fitted(store), name="fitted"))
    if request.source == "auto" and _knows_all(captured, topology, store):
        return replace(request, cost=Measured(store))
    return replace(request, cost=Roofline())


def _knows_all(captured: Captured, topology: Topology, store: CostStore) -> bool:
    keys = {DeviceKey.of(d) for d in topology.devices if not is_here(d)} | {DeviceKey.of(d) for d in sorts(topology)}
    return all(not missing(captured, store.seconds(key)) for key in keys)


def _require_known(captured: Captured, topology: Topology, store: CostStore) -> None:
    for device in topology.devices:
        if is_here(device):
            continue
        known = store.seconds(DeviceKey.of(device))
        lacking = sorted({op.target for op in missing(captured, known)})
        if lacking:
            raise CostError(
                f"cost 'measured': {len(lacking)} sort(s) of ops, {lacking[0]!r} for one, were never timed on "
                f"{device.kind!r} (device {device.name!r}), which is not on this machine; plan there once and bring "
                "its store of costs (TORCHPLACE_CACHE), or take cost='roofline'"
            )
