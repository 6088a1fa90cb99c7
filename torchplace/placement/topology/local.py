"""This machine as a topology: its accelerators, or CPU devices that share its cores and memory."""

from __future__ import annotations

import os
from pathlib import Path

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology.corun import CoRun
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.figures import CpuFigures, cores, read_figures, write_figures
from torchplace.placement.topology.host import Host
from torchplace.placement.topology.link import Link, both_ways
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

__all__ = ["CpuFigures", "local", "machine_memory", "read_figures", "write_figures"]

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit where that is less.

    Raises:
        TopologyError: the operating system does not say.
    """
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        raise TopologyError(
            "the memory of this machine is unknown here; give a topology file with the memory of each device"
        ) from None
    return min([physical, *_limits()])


def _limits() -> list[int]:
    limits = []
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if text.isdigit() and int(text) > 0:  # "max" where there is no limit
            limits.append(int(text))
    return limits


def local(n: int = 2, threads: int | None = None) -> Topology:
    """`n` devices of this machine.

    Where torch has an accelerator and `n` of its devices exist, they are the devices ("cuda:0" and so on),
    with nominal figures (see `_accelerators`). Otherwise `n` CPU devices "cpu:0" and so on, each a worker
    thread; they may be more than there are cores. CPU devices share one memory, the switch "memory", and each
    has an equal share of its capacity. Each uses the same number of intra-op threads, so that results do not
    depend on `n`, to the bit; the devices therefore share cores, and the figures are those of a device that
    works alone: measured ones (`read_figures`), else nominal ones.

    Args:
        n: number of devices.
        threads: intra-op threads of each CPU device; None means `torch.get_num_threads()`, when it runs.

    Raises:
        OptionError: `n` or `threads` is not a whole number above 0.
        TopologyError: the operating system does not say how much memory there is.
    """
    _require_count("n", n, "devices")
    if threads is not None:
        _require_count("threads", threads, "intra-op threads, or None")
    return _accelerators(n) or _cpus(n, threads)


def _require_count(option: str, value: object, unit: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise OptionError(f"{option} is {value!r}, expected a whole number above 0 ({unit})")


def _cpus(n: int, threads: int | None) -> Topology:
    import torch

    used = torch.get_num_threads() if threads is None else threads
    figures = read_figures(used) or CpuFigures.nominal(used)
    devices = tuple(
        Device(
            name=f"cpu:{i}",
            kind="cpu",
            memory=machine_memory() // n,
            peak_flops={"float32": figures.peak_flops},
            memory_bandwidth=figures.memory_bandwidth,
            launch_overhead=figures.launch_overhead,
            torch_device="cpu",
            threads=threads,
            sharing=n,
            crowding=figures.crowding if n > 1 else 0.0,
        )
        for i in range(n)
    )
    # Each transfer crosses two links, one to the shared memory and one from it, so each has half of the
    # latency.
    links = _star(devices, "memory", "memory", figures.transfer_bandwidth, figures.transfer_latency / 2)
    host = Host(figures.call, figures.argument, figures.instruction, figures.start)
    return Topology("local", devices, (Switch("memory", "host-memory"),), links, _sharing(devices, figures), host)


def _sharing(devices: tuple[Device, ...], figures: CpuFigures) -> tuple[CoRun, ...]:
    """The group of CPU devices that share the cores of this machine."""
    names = tuple(device.name for device in devices)
    return (
        (CoRun("cores", names, float(cores()), (1.0, figures.slowdown), figures.contention),) if len(names) > 1 else ()
    )


def _star(devices: tuple[Device, ...], center: str, kind: str, bandwidth: float, latency: float) -> tuple[Link, ...]:
    return tuple(link for device in devices for link in both_ways(device.name, center, kind, bandwidth, latency))


def _accelerators(n: int) -> Topology | None:
    """The first `n` accelerators under one host bridge; None when torch sees fewer than `n`.

    Only names and memory are read from the machine. The rest is a nominal stand-in until it is measured or a
    topology file is given: 10 TFLOP/s and 500 GB/s, 5 us an op, and PCIe 3 links as in the presets.
    """
    import torch

    if not torch.accelerator.is_available() or torch.accelerator.device_count() < n:
        return None
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return None
    devices = tuple(
        Device(
            name=f"{accelerator.type}:{i}",
            kind=accelerator.type,
            memory=_accelerator_memory(accelerator.type, i, n),
            peak_flops={"float32": 10e12},
            memory_bandwidth=500e9,
            launch_overhead=5e-6,
            torch_device=f"{accelerator.type}:{i}",
        )
        for i in range(n)
    )
    return Topology("local", devices, (Switch("host", "cpu-socket"),), _star(devices, "host", "pcie3-x16", 12e9, 3e-6))


def _accelerator_memory(kind: str, index: int, n: int) -> int:
    """Bytes of an accelerator; a share of the machine's where its module does not say (unified memory)."""
    import torch

    module = torch.get_device_module(kind)
    if not hasattr(module, "get_device_properties"):
        return machine_memory() // n
    return int(module.get_device_properties(index).total_memory)
