"""Measures the devices of all ranks of a job, one a rank, and the links between them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations, permutations
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from torchplace.placement.cost.measured_links import Samples, Together, Transfers, wires
from torchplace.placement.topology.corun import CoRun
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.local import machine_memory
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.ping_pong import Line, meet, one_way, stream
from torchplace.runtime.ranks import Ranks, join
from torchplace.runtime.speeds import Speeds, measure_speeds, product

SECONDS = 6.0
"""For each pair of ranks, about."""
_TOGETHER = 0.3  # seconds for what several do at once
_KEPT = 48  # samples of a size that are passed on
_NAME = re.compile(r"[^A-Za-z0-9_.@+-]")
Told = Callable[[str, float], None]


def measure_ranks(told: Told, timeout: float, seconds: float = SECONDS) -> Topology:
    """The topology of a job: one device a rank, in the order of ranks; every rank must call it and gets the same.

    Ranks that reach each other without a network (one machine, one network namespace) are of one host.

    Args:
        told: is told, on rank 0, what is being measured and which share is done.
        timeout: seconds that a rank is waited for.
        seconds: for each pair of ranks.

    Raises:
        TopologyError: a rank failed, died, or hangs.
    """
    with join(timeout) as ranks:
        job = _Job(ranks, told if ranks.rank == 0 else lambda what, share: None, seconds)
        topology = job.measure()
        ranks.part()
        return topology


def _here() -> dict[str, Any]:
    """What a rank says of itself."""
    accelerator = torch.accelerator.current_accelerator()
    index = int(os.environ.get("LOCAL_RANK", "0"))
    return {
        "host": _NAME.sub("-", socket.gethostname()) or "host",
        "machine": _read("/proc/sys/kernel/random/boot_id") or socket.gethostname(),
        "network": _network(),
        "device": "cpu" if accelerator is None else f"{accelerator.type}:{index}",
        "threads": torch.get_num_threads(),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "memory": machine_memory(),
        "own_memory": None if accelerator is None else _own_memory(torch.device(accelerator.type, index)),
    }


def _own_memory(device: torch.device) -> int | None:
    module = torch.get_device_module(device)
    return int(module.get_device_properties(device).total_memory) if hasattr(module, "get_device_properties") else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _network() -> str:
    """Which network namespace this process is in; "" where there are none."""
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return ""


class _Job:
    """One measurement, as one rank takes part in it. All ranks go through the same steps in the same order."""

    def __init__(self, ranks: Ranks, told: Told, seconds: float) -> None:
        self.ranks, self.told, self.seconds = ranks, told, seconds
        self.facts: list[dict[str, Any]] = ranks.gather("facts", _here())
        self.hosts = list(_host_names(self.facts))
        self.names = list(_device_names(self.facts, self.hosts))
        self.device = torch.device(self.facts[ranks.rank]["device"])

    def measure(self) -> Topology:
        """Devices, then pairs, then what several do at once; rank 0 puts it together."""
        speeds = self._speeds()
        coruns = list(self._coruns())
        pairs = self._pairs()
        inside, out, both = self._together()
        key = "topology"
        if self.ranks.rank == 0:
            hosts = dict(zip(self.names, self.hosts, strict=True))
            found = wires(
                Transfers(hosts, pairs, inside, out, both, kind="gloo" if self.device.type == "cpu" else "p2p")
            )
            devices = tuple(map(self._device, range(self.ranks.size), speeds))
            made = Topology("ranks", devices, tuple(found.switches), tuple(found.links), tuple(coruns))
            self.ranks.say(key, made.to_dict())
        return Topology.from_dict(self.ranks.hear(key, "rank 0"))

    def _device(self, rank: int, speeds: Speeds) -> Device:
        fact = self.facts[rank]
        there = torch.device(fact["device"])
        sharing = sum(other["machine"] == fact["machine"] for other in self.facts)
        memory = fact["own_memory"] or fact["memory"] // sharing
        threads = fact["threads"] if there.type == "cpu" else None
        return Device(self.names[rank], there.type, memory, torch_device=str(there), threads=threads, **vars(speeds))

    def _by_machine(self) -> list[list[int]]:
        """Ranks of each machine."""
        found: dict[str, list[int]] = {}
        for rank, fact in enumerate(self.facts):
            found.setdefault(fact["machine"], []).append(rank)
        return list(found.values())

    def _speeds(self) -> list[Speeds]:
        """Of each rank, alone on its machine."""
        machines = self._by_machine()
        found: dict[int, Speeds] = {}
        for i in range(max(map(len, machines))):
            self.told("speeds of devices", 0.15 * i / max(map(len, machines)))
            members = [machine[i] for machine in machines if i < len(machine)]
            answers = self.ranks.turn(f"speeds/{i}", members, lambda: vars(measure_speeds(self.device)))
            found.update(zip(members, (Speeds(**answer) for answer in answers), strict=True))
        return [found[rank] for rank in range(self.ranks.size)]

    def _coruns(self) -> Iterator[CoRun]:
        """How ranks of one machine slow each other while they compute."""
        for i, members in enumerate(self._by_machine()):
            if len(members) == 1:
                continue
            self.told("what ranks of a machine share", 0.15)
            alone = self.ranks.turn(f"corun/{i}/alone", members[:1], self._rate)[0]
            together = self.ranks.turn(f"corun/{i}/together", members, lambda m=members: self._rate_with(m))  # type: ignore[misc]
            cores = {core for rank in members for core in self.facts[rank]["cores"]}
            demand = sum(self.facts[rank]["threads"] for rank in members) if self.device.type == "cpu" else 0
            share = max(1.0, demand / len(cores)) if cores else 1.0
            last = max(1.0, alone / (sum(together) / len(together)) / share)
            slowdown = [1 + (last - 1) * k / (len(members) - 1) for k in range(len(members))]
            capacity = float(len(cores)) if cores and self.device.type == "cpu" else None
            yield CoRun(f"cores:{i}", tuple(self.names[rank] for rank in members), capacity, tuple(slowdown))

    def _rate(self) -> float:
        """Products a second, for a while."""
        work, _ = product(self.device)
        work()
        count, begun = 0, perf_counter()
        while (passed := perf_counter() - begun) < _TOGETHER:
            work()
            count += 1
        return count / passed

    def _rate_with(self, members: Sequence[int]) -> float:
        meet(members, self.device, self.ranks.timeout)
        return self._rate()

    def _pairs(self) -> dict[tuple[str, str], Samples]:
        """Transfers of each pair of ranks, alone."""
        pairs = list(combinations(range(self.ranks.size), 2))
        found: dict[tuple[str, str], Samples] = {}
        for i, (one, other) in enumerate(pairs):
            self.told(f"transfers between {self.names[one]} and {self.names[other]}", 0.2 + 0.7 * i / len(pairs))
            work = partial(self._both_ways, one, other)
            there, back = self.ranks.turn(f"pair/{one}/{other}", (one, other), work)
            found[self.names[one], self.names[other]] = _sizes(there)
            found[self.names[other], self.names[one]] = _sizes(back)
        return found

    def _both_ways(self, one: int, other: int) -> dict[str, list[float]]:
        """This end's transfers to the other end: first those of `one`, then those of `other`."""
        line = Line(one + other - self.ranks.rank, self.device, self.ranks.timeout)
        mine: dict[int, list[float]] = {}
        for sender in (one, other):
            if sender == self.ranks.rank:
                mine = one_way(line, self.seconds / 2)
                line.hang_up()
            else:
                line.pong()
        return {str(nbytes): sorted(seconds)[:: -(-len(seconds) // _KEPT)] for nbytes, seconds in mine.items()}

    def _together(self) -> tuple[dict[str, Together], dict[tuple[str, str], Together], dict[tuple[str, str], Together]]:
        """What transfers at the same time share: inside hosts, out of them, and both ways between two."""
        members: dict[str, list[int]] = {}
        for rank, host in enumerate(self.hosts):
            members.setdefault(host, []).append(rank)
        self.told("transfers at the same time", 0.9)
        inside = {
            host: self._at_once(f"inside/{host}", list(zip(ranks, [*ranks[1:], ranks[0]], strict=True)))
            for host, ranks in members.items()
            if len(ranks) > 1
        }
        out = {
            (a, b): self._at_once(f"out/{a}/{b}", list(zip(members[a], members[b], strict=False)))
            for a, b in permutations(members, 2)
            if len(members[a]) > 1 < len(members[b])
        }
        both = {
            (a, b): self._at_once(f"both/{a}/{b}", [(members[a][0], members[b][0]), (members[b][0], members[a][0])])
            for a, b in list(combinations(members, 2)) * (len(members) == 2)
        }
        return inside, out, both

    def _at_once(self, key: str, flows: Sequence[tuple[int, int]]) -> Together:
        """How much more several flows move together than the first of them alone."""
        nbytes = 1 << 16
        seconds = self._flow(f"{key}/probe", flows[:1], nbytes, 4)
        nbytes = min(1 << 26, max(nbytes, int(nbytes * _TOGETHER / 4 / seconds)))
        alone = self._flow(f"{key}/alone", flows[:1], nbytes, 4)
        together = self._flow(f"{key}/together", flows, nbytes, 4)
        return Together(len(flows), len(flows) * alone / together)

    def _flow(self, key: str, flows: Sequence[tuple[int, int]], nbytes: int, times: int) -> float:
        """Seconds a transfer, of the slowest of some flows."""
        members = sorted({rank for flow in flows for rank in flow})

        def work() -> float:
            meet(members, self.device, self.ranks.timeout)
            target = next((b for a, b in flows if a == self.ranks.rank), None)
            source = next((a for a, b in flows if b == self.ranks.rank), None)
            return stream(target, source, self.device, nbytes, times, self.ranks.timeout)

        return max(self.ranks.turn(key, members, work)) / times


def _sizes(sent: Mapping[str, list[float]]) -> dict[int, list[float]]:
    return {int(nbytes): seconds for nbytes, seconds in sent.items()}


def _host_names(facts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The host of each rank; hosts of one name get a number behind it."""
    known: dict[tuple[str, str], str] = {}
    for fact in facts:
        place = fact["machine"], fact["network"]
        if place not in known:
            same = sum(name == fact["host"] or name.startswith(f"{fact['host']}-") for name in known.values())
            known[place] = f"{fact['host']}-{same}" if same else fact["host"]
        yield known[place]


def _device_names(facts: Sequence[Mapping[str, Any]], hosts: Sequence[str]) -> Iterator[str]:
    """Names such as "cpu:0"; with the host before them where there are several."""
    count: dict[str, int] = {}
    for fact, host in zip(facts, hosts, strict=True):
        kind = torch.device(fact["device"]).type
        number = count.get(host, 0)
        count[host] = number + 1
        yield f"{host}/{kind}:{number}" if len(set(hosts)) > 1 else f"{kind}:{number}"
