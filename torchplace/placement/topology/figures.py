"""Speeds of a CPU device of this machine: nominal ones, and measured ones kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import platform
import warnings
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from torchplace.errors import TopologyError
from torchplace.placement.topology.atomic import write_whole

_VERSION = 9  # of what is measured, and how: figures of another version are measured again


class CpuFigures(BaseModel):
    """Speeds of one CPU device that works alone, and of a transfer between two of them.

    Devices that work at the same time share cores and memory bandwidth and are slower than this; how much is
    the business of a co-run factor, not of these figures.

    The defaults are nominal, for planning before anything was measured: they are figures of one thread,
    rounded, of a small server (2 cores of an AMD EPYC 7003, torch 2.13: float32 matrix product of size 1024
    at 81 GFLOP/s, copy of 64 MiB at 13 GB/s read and written together, `torch.add` of 4 numbers in 1.7 us, a
    queue between two threads in 7 us, clone of 16 MiB at 11 GB/s; the host's: a chain of 60 tiny layers, on one device
    and with its ops alternating between two). Other machines differ several times.

    Attributes:
        peak_flops: float32 FLOP/s of one device with its intra-op threads.
        memory_bandwidth: bytes/s, reads and writes together.
        launch_overhead: seconds an op.
        transfer_latency: seconds from one worker to another, of a transfer of no size.
        transfer_bandwidth: bytes/s from one worker to another.
        call, argument, instruction, send, receive, wake, start: what the host adds (`Host`), seconds.
        slowdown: factor by which devices that compute at the same time slow each other, beyond sharing the cores.
        contention: how much longer small ops take while another device runs small ops (`CoRun.contention`).
        reference: seconds of a fixed piece of work (`runtime.reference`) when these were measured: the pace that
            measured costs are kept for; 0 where it is not known.
        calibrated: the figures of the host, the latency and the slowdown were measured, too (`runtime.calibrate`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    peak_flops: float = Field(default=80e9, gt=0)
    memory_bandwidth: float = Field(default=13e9, gt=0)
    launch_overhead: float = Field(default=2e-6, ge=0)
    transfer_latency: float = Field(default=7e-6, ge=0)
    transfer_bandwidth: float = Field(default=10e9, gt=0)
    call: float = Field(default=80e-6, ge=0)
    argument: float = Field(default=2.5e-6, ge=0)
    instruction: float = Field(default=5e-6, ge=0)
    send: float = Field(default=5e-6, ge=0)
    receive: float = Field(default=2e-6, ge=0)
    wake: float = Field(default=8e-6, ge=0)
    start: float = Field(default=75e-6, ge=0)
    slowdown: float = Field(default=1.05, ge=1)
    contention: float = Field(default=2.0, ge=0)
    reference: float = Field(default=0.0, ge=0)
    calibrated: bool = False

    @classmethod
    def nominal(cls, threads: int) -> CpuFigures:
        """The defaults for a device with `threads` intra-op threads: FLOP/s grow with them, nothing else."""
        return cls(peak_flops=80e9 * threads)


class _Record(BaseModel):
    """The file of measured figures: what they were measured on, and the figures."""

    model_config = ConfigDict(extra="forbid")

    cpu: str
    torch: str
    threads: int
    figures: CpuFigures


def cache_directory() -> Path:
    """Where measured figures are kept: $TORCHPLACE_CACHE, or torchplace in $XDG_CACHE_HOME or in ~/.cache."""
    chosen = os.environ.get("TORCHPLACE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification has relative paths ignored.
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "torchplace"


def cpu_model() -> str:
    """The CPU's model as the operating system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else "") or platform.processor() or platform.machine() or "unknown"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(threads: int) -> tuple[str, str, int]:
    import torch

    return cpu_model(), str(torch.__version__), threads


def figures_path(threads: int) -> Path:
    """The file of the figures for this CPU model, torch version and number of threads."""
    digest = hashlib.sha256(repr((_VERSION, *_key(threads))).encode()).hexdigest()[:16]
    return cache_directory() / "cpu" / f"{digest}.json"


def read_figures(threads: int) -> CpuFigures | None:
    """The measured figures of a CPU device here; None when none were written for this CPU and torch.

    A damaged file is not used, and a warning names it: planning goes on with nominal figures.
    """
    path = figures_path(threads)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    try:
        record = _Record.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field = ".".join(map(str, fault["loc"])) or "the file"
        warnings.warn(
            f"measured figures {path}: {field}: {fault['msg']}; not used, measure again or delete the file",
            stacklevel=2,
        )
        return None
    # A hash of the key is in the file's name; this guards against a file that was copied or renamed.
    return record.figures if (record.cpu, record.torch, record.threads) == _key(threads) else None


def write_figures(threads: int, figures: CpuFigures) -> Path:
    """Keeps measured figures for this CPU model, torch version and number of threads; returns the file.

    Raises:
        TopologyError: the file cannot be written.
    """
    path = figures_path(threads)
    cpu, version, threads = _key(threads)
    record = _Record(cpu=cpu, torch=version, threads=threads, figures=figures)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, record.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise TopologyError(
            f"measured figures {path}: cannot be written: {error.strerror or error};"
            " set TORCHPLACE_CACHE to a directory that can"
        ) from None
    return path
