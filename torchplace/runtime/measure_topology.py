"""Measures the devices that are here and what joins them: those of this process, or of all ranks under torchrun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations

import torch

from torchplace.errors import OptionError
from torchplace.placement.cost.measured_links import Samples, Transfers, pooled, wires
from torchplace.placement.cost.refit import refit
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.calibrate import calibrated_figures
from torchplace.runtime.hand_over import hand_overs
from torchplace.runtime.measure_ranks import SECONDS, measure_ranks
from torchplace.runtime.op_times import is_here
from torchplace.runtime.progress import Tell, nobody
from torchplace.runtime.ranks import leads, under_torchrun
from torchplace.runtime.speeds import Speeds, measure_speeds

TIMEOUT = 60.0


def measure(
    topology: Topology | None = None,
    on_progress: Tell = nobody,
    *,
    timeout: float = TIMEOUT,
    seconds: float = SECONDS,
) -> Topology:
    """Measure peaks, memory bandwidth and overhead of every device, and transfers between every two by their size.

    In one process these are the devices of a topology, handed values as the local runtime does it. Under torchrun
    (or where torch.distributed is initialised) it is one device a rank, in the order of ranks, with transfers over the
    job's process group; every rank must call it, and gets the same topology.

    Args:
        topology: devices of this process; None for `Topology.local()`. Ranks have none to choose.
        on_progress: is told what is being measured and which share is done, on rank 0.
        timeout: seconds that a rank is waited for.
        seconds: how long a pair of ranks is measured, about.

    Returns:
        The topology. In one process it has the devices and the name of the one given. Links have pieces where one
        latency and one bandwidth do not explain all sizes (`fit_pieces`).

    Raises:
        OptionError: a device is not here; or ranks were given a topology.
        TopologyError: a rank failed, died or hangs.
        CostError: nothing could be measured.

    Cost: some seconds, and for ranks as many for each pair, one pair after the other: quadratic in the ranks. Of 100
    ranks it would take hours.
    """
    if under_torchrun():
        if topology is not None:
            raise OptionError(f"topology {topology.name!r} was given, but under torchrun each rank is a device")
        return measure_ranks(on_progress, timeout, seconds)
    return _measure_here(Topology.local() if topology is None else topology, on_progress)


def writes() -> bool:
    """Whether this process is the one that prints and writes what was measured: rank 0, or the only one."""
    return leads()


def _measure_here(topology: Topology, told: Tell) -> Topology:
    away = [device.name for device in topology.devices if not is_here(device)]
    if away:
        raise OptionError(
            f"topology {topology.name!r}: device(s) {', '.join(away[:8])} are not on this machine; measure it there"
        )
    topology = _calibrated(topology, told)
    devices = _measured_devices(topology, told)
    pairs = dict[tuple[str, str], Samples]()
    ordered = list(permutations(topology.device_names, 2))
    for i, pair in enumerate(ordered):
        told(f"transfers from {pair[0]} to {pair[1]}", 0.5 + 0.5 * i / len(ordered))
        pairs[pair] = hand_overs(topology, *pair)
    return _joined(replace(topology, devices=devices), pairs)


def _calibrated(topology: Topology, told: Tell) -> Topology:
    """With what this host adds, where the devices are CPU devices of this machine as `Topology.local` has them."""
    count, threads = len(topology.devices), topology.devices[0].threads
    if not _all_cpus(topology) or topology.digest != Topology.local(count, threads).digest:
        return topology
    told("the host", 0.0)
    calibrated_figures()
    return replace(Topology.local(count, threads), name=topology.name)


def _all_cpus(topology: Topology) -> bool:
    return all(torch.device(device.torch_device).type == "cpu" for device in topology.devices)


def _measured_devices(topology: Topology, told: Tell) -> tuple[Device, ...]:
    """The devices with their speeds: of each sort of CPU device one is measured, and every accelerator."""
    known: dict[tuple[str, int | None], Speeds] = {}
    devices = []
    dealt = topology.used(topology.device_names)
    for i, device in enumerate(topology.devices):
        threads = dealt.devices[i].threads
        key = device.torch_device, threads
        if key not in known:
            told(f"speeds of {device.name}", 0.2 + 0.3 * i / len(topology.devices))
            known[key] = _with_threads(threads, torch.device(device.torch_device))
        devices.append(replace(device, **vars(known[key])))
    return tuple(devices)


def _with_threads(threads: int | None, device: torch.device) -> Speeds:
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return measure_speeds(device)
    finally:
        torch.set_num_threads(before)


def _joined(topology: Topology, pairs: Mapping[tuple[str, str], Samples]) -> Topology:
    """With links that take what was measured: those of its own structure, if that explains it."""
    if not pairs:
        return topology
    if _all_cpus(topology):  # one way of handing over serves all of them
        pairs = dict.fromkeys(pairs, pooled(pairs.values()))
    else:
        fitted = refit(topology, pairs)
        if fitted is not None:
            return fitted
    found = wires(Transfers(dict.fromkeys(topology.device_names, topology.name), pairs))
    return replace(topology, switches=tuple(found.switches), links=tuple(found.links))
