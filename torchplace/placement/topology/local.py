"""This machine as a topology: its accelerators, or CPU devices that share its cores and memory."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.topology.corun import CoRun
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.discover.accelerators import accelerators
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
    as `discover.accelerators` finds them. Otherwise `n` CPU devices "cpu:0" and so on, each a worker
    thread; they may be more than there are cores. CPU devices share one memory, the switch "memory", and each
    has an equal share of its capacity. They share torch's intra-op threads: a program that uses k of them gives each
    a k-th (`Topology.used`), for thread pools that are together larger than the cores slow each other badly. The
    figures are those of a device when all `n` are used: measured ones (`read_figures`), else nominal ones.

    Args:
        n: number of devices.
        threads: intra-op threads of each CPU device, always; None for a share.

    Raises:
        OptionError: `n` or `threads` is not a whole number above 0.
        TopologyError: the operating system does not say how much memory there is.
    """
    _require_count("n", n, "devices")
    if threads is not None:
        _require_count("threads", threads, "intra-op threads, or None")
    return accelerators(n, machine_memory) or _cpus(n, threads)


def _require_count(option: str, value: object, unit: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise OptionError(f"{option} is {value!r}, expected a whole number above 0 ({unit})")


def _cpus(n: int, threads: int | None) -> Topology:
    import torch

    used = max(1, torch.get_num_threads() // n) if threads is None else threads
    figures = read_figures(used) or CpuFigures.nominal(used)
    pair = pair_threads()  # what the host adds was measured on two devices, whatever their number is here
    host = (read_figures(pair) if pair != used else figures) or CpuFigures.nominal(pair)
    return local_with(n, figures, host, threads)


def local_with(n: int, figures: CpuFigures, host: CpuFigures | None = None, threads: int | None = None) -> Topology:
    """`n` CPU devices of this machine with given figures.

    Args:
        n: number of devices.
        figures: of each device, when all are used.
        host: figures that tell what the host adds; None for the same.
        threads: intra-op threads of each; None for a share.
    """
    host = host or figures
    devices = tuple(
        Device(
            name=f"cpu:{i}",
            kind="cpu",
            memory=machine_memory() // n,
            peak_flops={"float32": figures.peak_flops},
            memory_bandwidth=figures.memory_bandwidth,
            launch_overhead=host.launch_overhead,
            torch_device="cpu",
            threads=threads,
        )
        for i in range(n)
    )
    # Each transfer crosses two links, one to the shared memory and one from it, so each has half of the
    # latency.
    links = _star(devices, "memory", "memory", host.transfer_bandwidth, host.transfer_latency / 2)
    beside = Host(**{field.name: getattr(host, field.name) for field in fields(Host)})
    coruns = _sharing(devices, host, pooled=threads is None)
    return Topology("local", devices, (Switch("memory", "host-memory"),), links, coruns, beside)


def pair_threads() -> int:
    """Intra-op threads of each of two CPU devices that share torch's."""
    import torch

    return max(1, torch.get_num_threads() // 2)


def _sharing(devices: tuple[Device, ...], figures: CpuFigures, pooled: bool) -> tuple[CoRun, ...]:
    """The group of CPU devices that share the cores of this machine, and torch's threads where they are pooled."""
    import torch

    if len(devices) == 1:
        return ()
    names = tuple(device.name for device in devices)
    pool = torch.get_num_threads() if pooled else None
    return (CoRun("cores", names, float(cores()), (1.0, figures.slowdown), figures.contention, pool),)


def _star(devices: tuple[Device, ...], center: str, kind: str, bandwidth: float, latency: float) -> tuple[Link, ...]:
    return tuple(link for device in devices for link in both_ways(device.name, center, kind, bandwidth, latency))
