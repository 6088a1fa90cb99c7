"""What an op costs on a device: the protocol of compute costs, and the roofline model."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

from torchplace.compiler.graph import Op, Value
from torchplace.compiler.types import TensorType
from torchplace.placement.cost.shapes import Product, product_of
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

CPU_TILE = (6, 16, 6)
"""Rows, columns and smallest tile of the float32 kernels of CPUs with 16 vector registers of 32 bytes: 6 x 16 in Van
Zee and van de Geijn, "BLIS: a framework for rapidly instantiating BLAS functionality" (ACM TOMS 41, 2015)."""

ACCELERATOR_TILE = (128, 128, 16)
"""Tiles of 128 x 128 are among those that NVIDIA's guide lists; 16 x 16 is the piece that its tensor cores multiply."""

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

    Matrix products, convolutions and attention (`shapes.product_of`) are computed in tiles, and a tile that is not
    full takes as long as one that is ("tile quantization" in NVIDIA's "Matrix Multiplication Background User's
    Guide"): the FLOPs are those of whole tiles, `padded_flops` says which. So a product of one row, and a
    depthwise convolution, is as far below the peak as its tiles are empty.

    Limits: no op reaches its roof, so times are too low, by a factor that differs between ops; a measured cost
    knows better. How many tiles an accelerator computes at the same time is not known of a device: a product of
    fewer tiles counts as if it filled it.

    What costs nothing: views, and what touches scalars or sizes only. A view takes the host a moment even on a
    real device, but it launches nothing, and the host runs ahead of the device; so its overhead counts as 0.

    Cost: what does not depend on the device is kept with the op.
    """

    name: ClassVar[str] = "roofline"

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`, at the hints of its symbols."""
        work = op.__dict__.get("_roofline")
        if work is None:
            work = op.__dict__["_roofline"] = _Work.of(op)
        if work.free:
            return 0.0
        flops = work.by_vectors if device.kind == "cpu" else work.by_tiles
        seconds = max(flops / device.peak(work.dtype), work.bytes / device.memory_bandwidth)
        return float(seconds + device.launch_overhead)

    def demand(self, op: Op, device: Device) -> float:
        """Cores that it keeps busy (`threads_used`)."""
        return threads_used(op, device)


class _Work(NamedTuple):
    """What the roofline wants to know of an op: FLOPs as a CPU and as an accelerator computes them, bytes."""

    free: bool
    by_vectors: float
    by_tiles: float
    bytes: int
    dtype: str

    @classmethod
    def of(cls, op: Op) -> _Work:
        product = product_of(op)
        vectors, tiles = (padded_flops(product, *t) if product else 0.0 for t in (CPU_TILE, ACCELERATOR_TILE))
        return cls(is_free(op), max(op.flops, vectors), max(op.flops, tiles), bytes_touched(op), op.dtype)


def threads_used(op: Op, device: Device) -> float:
    """Intra-op threads that an op keeps busy: all of a CPU device's if torch splits it; else 1."""
    if device.kind != "cpu" or (device.threads or 1) == 1:
        return 1.0
    largest = max((v.type.numel for v in op.outputs if isinstance(v.type, TensorType)), default=0)
    return float(device.threads or 1) if largest >= PARALLEL_ELEMENTS else 1.0


def padded_flops(product: Product, rows: int, columns: int, least: int) -> float:
    """FLOPs of the tiles that cover the result of a product; not less than its own, and no fewer for a larger one.

    Args:
        product: what is computed.
        rows: of a tile.
        columns: of a tile.
        least: rows and columns of the smallest tile. A result with fewer rows or columns than a tile is computed with
            smaller ones, halved until they are `least`.
    """
    m, n = _pad(product.m, rows, least), _pad(product.n, columns, least)
    return product.flops / max(1, product.m * product.n) * m * n


def _pad(size: int, tile: int, least: int) -> int:
    while tile // 2 >= max(size, least):
        tile //= 2
    return -(-size // tile) * tile


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
