"""Devices as bounds see them: how many there are of each sort, for every number of them that a program may use."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from torchplace.placement.topology.corun import CoRun
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.topology import Topology


@dataclass(frozen=True)
class Sort:
    """Devices on which every op takes as long, and which have as much memory.

    Attributes:
        names: of the devices.
        number: how many of them a program can use at most.
        together: how many devices' worth of work is done at a time, at most: fewer than `number` where devices slow
            each other (`CoRun`).
        memory: bytes of each.
        likes: one of the devices for each number of threads that it may have: what an op takes is the least of these.
    """

    names: tuple[str, ...]
    number: int
    together: float
    memory: int
    likes: tuple[Device, ...]


Machine = tuple[Sort, ...]
"""All devices that a program can use."""


def machines(topology: Topology, apart: Container[str] = (), most: int = 24) -> list[Machine]:
    """The machines of which a program sees one: a bound is the smallest of those on each.

    Where devices share threads (`Topology.used`), how fast they are depends on how many of them compute. Numbers that
    give each the same threads are one case: the most of them.

    Args:
        topology: devices, links and what devices share.
        apart: names of devices that are a sort of their own, for something is said of just them.
        most: how many machines are told apart; of more, one is made on which every op takes as long as with the best
            number of threads.

    Cost: linear in the devices, for each case.
    """
    pooled = [group for group in topology.coruns if group.threads is not None]
    counts = [_counts(group) for group in pooled]
    if prod(map(len, counts)) > most:
        several = [topology.used(name for group in pooled for name in group.devices[:k]) for k in _all(counts)]
        return [_machine(topology, several, {}, apart)]
    return [_case(topology, pooled, chosen, apart) for chosen in product(*counts)]


def _case(topology: Topology, pooled: list[CoRun], counts: tuple[int, ...], apart: Container[str]) -> Machine:
    limits = {group.name: count for group, count in zip(pooled, counts, strict=True)}
    running = [name for group, count in zip(pooled, counts, strict=True) for name in group.devices[:count]]
    return _machine(topology, [topology.used(running)], limits, apart)


def _counts(group: CoRun) -> list[int]:
    """Numbers of devices, one for each share of the group's threads."""
    most = {max(1, (group.threads or 1) // k): k for k in range(1, len(group.devices) + 1)}
    return sorted(most.values())


def _all(counts: list[list[int]]) -> Iterator[int]:
    return iter(sorted({k for several in counts for k in several}))


def _machine(topology: Topology, seen: list[Topology], limits: dict[str, int], apart: Container[str]) -> Machine:
    """The sorts of a topology whose devices are as in one of those seen."""
    group_of = {name: group for group in topology.coruns for name in group.devices}
    members: dict[tuple[object, ...], list[int]] = {}
    for i, device in enumerate(topology.devices):
        group = group_of.get(device.name)
        own = device.name if device.name in apart else ""
        key = (plain(device), device.memory, group.name if group else "", own)
        members.setdefault(key, []).append(i)
    return tuple(_sort(topology, seen, limits, group_of, places) for places in members.values())


def _sort(
    topology: Topology, seen: list[Topology], limits: dict[str, int], group_of: dict[str, CoRun], places: list[int]
) -> Sort:
    first = topology.devices[places[0]]
    group = group_of.get(first.name)
    most = limits.get(group.name, len(group.devices)) if group else len(places)
    number = min(len(places), most)
    together = _together(group, number, most) if group else float(number)
    likes = tuple(t.devices[places[0]] for t in seen)
    return Sort(tuple(topology.devices[i].name for i in places), number, together, first.memory, likes)


def _together(group: CoRun, number: int, most: int) -> float:
    """Devices' worth of work that some of a group do at a time: what runs is slowed by how many run, at least."""
    slowdown = group.slowdown
    return max(min(k, number) / slowdown[min(k, len(slowdown)) - 1] for k in range(1, most + 1))


def plain(device: Device) -> Device:
    """What it is, name and memory apart: equal for devices on which every op takes as long."""
    return replace(device, name="any", torch_device="cpu", memory=1)
