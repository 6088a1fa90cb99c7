"""What an op costs on a device: the protocol of compute costs, and the roofline model."""

from __future__ import annotations

from typing import ClassVar, Protocol

from torchplace.compiler.graph import Op, Value
from torchplace.compiler.types import TensorType
from torchplace.placement.topology.device import Device

_METADATA = ("aten.sym_size", "aten.sym_stride", "aten.sym_numel", "aten.sym_storage_offset")
_GATHERS = frozenset(
    {
        "aten.embedding.default",
        "aten.gather.default",
        "aten.index.Tensor",
        "aten.index_select.default",
    }
)
"""Ops that read, of their first argument, no more than they make."""

PARALLEL_ELEMENTS = 32_768
"""Elements from which on torch splits an op over its intra-op threads: `at::internal::GRAIN_SIZE`."""


class ComputeCost(Protocol):
    """How long ops take: what solvers, the order of ops and the simulator ask.

    `name` is what the option `cost` calls it. Devices that differ in name and `torch_device` only must get
    equal times.
    """

    @property
    def name(self) -> str:
        """What the option `cost` calls it."""

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`, alone: finite, 0 or more."""

    def demand(self, op: Op, device: Device) -> float:
        """How much it asks meanwhile of what co-running devices share (`CoRun`): cores, for CPU devices."""


class Roofline:
    """Time of an op: the larger of FLOPs / peak and bytes / memory bandwidth, plus the device's launch overhead.

    Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
    architectures" (Communications of the ACM 52, 2009). Bytes are those of all inputs and outputs, once each, as
    if nothing stayed in a cache; of a table that is looked up, only the rows. The peak is that of the dtype that
    the op computes in.

    Limits: no op reaches its roof, so times are too low, by a factor that differs between ops; a measured cost
    knows better.

    What costs nothing: views, and what touches scalars or sizes only. A view takes the host a moment even on a
    real device, but it launches nothing, and the host runs ahead of the device; so its overhead counts as 0.
    """

    name: ClassVar[str] = "roofline"

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`, at the hints of its symbols."""
        if is_free(op):
            return 0.0
        work = op.flops / device.peak(op.dtype)
        traffic = bytes_touched(op) / device.memory_bandwidth
        return max(work, traffic) + device.launch_overhead

    def demand(self, op: Op, device: Device) -> float:
        """All threads of a CPU device for an op that torch splits; else 1."""
        largest = max((v.type.numel for v in op.outputs if isinstance(v.type, TensorType)), default=0)
        return float(device.threads or 1) if largest >= PARALLEL_ELEMENTS else 1.0


def is_free(op: Op) -> bool:
    """Whether an op does no work on a device: a view, arithmetic on scalars, or a look at a tensor's sizes."""
    if op.is_view or op.target.startswith(_METADATA):
        return True
    return not any(isinstance(v.type, TensorType) for v in (*op.inputs, *op.outputs))


def bytes_touched(op: Op) -> int:
    """Bytes that an op reads from and writes to memory, at the hints."""
    table = op.args[0] if op.args and op.target in _GATHERS else None
    if not isinstance(table, Value):
        return op.bytes_moved
    rows = min(table.nbytes, sum(v.nbytes for v in op.outputs))
    return op.bytes_moved - table.nbytes + rows
