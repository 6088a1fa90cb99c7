"""From transfers that were measured between devices to the switches and links that explain them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import NamedTuple

from torchplace.placement.cost.pieces import fit_pieces
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.piece import Piece
from torchplace.placement.topology.route import Route
from torchplace.placement.topology.switch import HOST_MEMORY, Switch

Samples = Mapping[int, Sequence[float]]
"""Bytes -> seconds of each transfer of so many, with nobody else on the way."""

ALIKE = 0.25
"""Pairs whose times differ by no more than this share of them (root mean square) are of one kind."""
SHARED = 0.75
"""Transfers at the same time that get less than this share of what they would get alone share a link."""
_AT_ONCE = 1e15  # bytes/s of a link that delays no transfer


class Together(NamedTuple):
    """Transfers that went on at the same time: how many, and how many times the bytes/s of one of them they moved."""

    flows: int
    ratio: float

    @property
    def shared(self) -> bool:
        """Whether they must have shared something."""
        return self.ratio < SHARED * self.flows


@dataclass(frozen=True)
class Transfers:
    """What was measured.

    Attributes:
        hosts: device -> the host that it is in, in the order of the devices.
        pairs: (source, target) -> its transfers; all ordered pairs of devices.
        inside: host -> a transfer from each of its devices to the next, all at once.
        out: (host, host) -> transfers of several devices of the first to the second at once.
        both: (host, host) -> a transfer each way at once.
        kind: what their links are made of: "gloo", "memory".
    """

    hosts: Mapping[str, str]
    pairs: Mapping[tuple[str, str], Samples]
    inside: Mapping[str, Together] = field(default_factory=dict)
    out: Mapping[tuple[str, str], Together] = field(default_factory=dict)
    both: Mapping[tuple[str, str], Together] = field(default_factory=dict)
    kind: str = "memory"

    def members(self) -> dict[str, list[str]]:
        """Host -> its devices."""
        found: dict[str, list[str]] = {}
        for device, host in self.hosts.items():
            found.setdefault(host, []).append(device)
        return found


@dataclass
class Wires:
    """Switches and links, as they are found."""

    switches: list[Switch] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


def wires(transfers: Transfers) -> Wires:
    """The switches and links between the devices of some hosts.

    Devices of one host meet in its memory, if their pairs are all alike; else each pair has a link of its own. Hosts
    meet in one network switch, if their pairs are alike or they are two; else each pair of hosts has a link of its own.
    What several transfers at once share becomes one link that all of them cross. A route takes what its pair took.

    Limits: transfers that share something else than the memory of a host, its way out, or the way between two hosts are
    taken for independent.

    Raises:
        CostError: a pair was not measured.
    """
    found = Wires()
    members = transfers.members()
    for host, devices in members.items():
        if len(devices) > 1:
            _inside(found, transfers, host if len(members) > 1 else "", devices)
    if len(members) > 1:
        _across(found, transfers, members)
    return found


@dataclass(frozen=True)
class _Curve:
    """What transfers take: the pieces, and bytes/s of the largest ones."""

    pieces: tuple[Piece, ...]
    bandwidth: float

    @classmethod
    def of(cls, samples: Samples) -> _Curve:
        pieces = fit_pieces(samples)
        return cls(pieces, _largest_rate(pieces, max(samples)))

    def link(self, source: str, target: str, kind: str, share: float = 1.0, times: float = 1.0) -> Link:
        """A link that takes a share of the latencies, and as wide as `times` of the largest transfers."""
        pieces = tuple(Piece(p.nbytes, p.latency * share, p.bandwidth) for p in self.pieces)
        width = self.bandwidth * times
        plain = len(pieces) == 1 and pieces[0].bandwidth == width
        return Link(source, target, kind, width, pieces[0].latency, () if plain else pieces)


def asymptote(samples: Samples) -> float:
    """Bytes/s of large transfers."""
    return _Curve.of(samples).bandwidth


def _largest_rate(pieces: tuple[Piece, ...], largest: int) -> float:
    """Bytes/s of the last piece; of the largest transfer where the last of several is so flat that it tells none."""
    last, seconds = pieces[-1].bandwidth, _seconds(pieces, largest)
    return last if len(pieces) == 1 or last * seconds <= 1.5 * largest else max(1, largest) / seconds


def _seconds(pieces: tuple[Piece, ...], nbytes: float) -> float:
    return Route((Link("from", "to", "wire", 1.0, 0.0, pieces),)).time(nbytes)


def _free(source: str, target: str, kind: str, width: float) -> Link:
    """A link that is as wide as that, and delays no single transfer."""
    return Link(source, target, kind, width, 0.0, (Piece(0, 0.0, _AT_ONCE),))


def pooled(samples: Iterable[Samples]) -> dict[int, list[float]]:
    """The transfers of several pairs as if they were of one."""
    found: dict[int, list[float]] = {}
    for one in samples:
        for nbytes, seconds in one.items():
            found.setdefault(nbytes, []).extend(seconds)
    return found


def _alike(samples: Iterable[Samples]) -> bool:
    """Whether some pairs take as long as all of them together do."""
    samples = list(samples)
    typical = {nbytes: statistics.median(seconds) for nbytes, seconds in pooled(samples).items()}
    for one in samples:
        off = [math.log(statistics.median(seconds) / typical[nbytes]) for nbytes, seconds in one.items()]
        if statistics.fmean(o * o for o in off) > math.log1p(ALIKE) ** 2:
            return False
    return True


def _inside(found: Wires, transfers: Transfers, host: str, devices: Sequence[str]) -> None:
    """What joins the devices of one host; a name before all nodes where there are several hosts."""
    samples = {pair: transfers.pairs[pair] for pair in permutations(devices, 2)}
    curve = _Curve.of(pooled(samples.values()))
    if not _alike(samples.values()):
        found.links += [_Curve.of(of_pair).link(*pair, transfers.kind) for pair, of_pair in samples.items()]
        return
    name = f"{host}/memory" if host else "memory"
    together = transfers.inside.get(transfers.hosts[devices[0]])
    entry, exit_ = _center(found, name, HOST_MEMORY, transfers.kind, curve, together)
    for device in devices:
        found.links += [curve.link(device, entry, transfers.kind, 0.5), curve.link(exit_, device, transfers.kind, 0.5)]


def _center(
    found: Wires, name: str, kind: str, link_kind: str, curve: _Curve, together: Together | None
) -> tuple[str, str]:
    """Where transfers meet: a switch; or two, with one link between them for all, where they share one."""
    found.switches.append(Switch(name, kind))
    if together is None or not together.shared:
        return name, name
    found.switches.append(Switch(f"{name}:out", kind))
    found.links.append(_free(name, f"{name}:out", link_kind, curve.bandwidth * max(1.0, together.ratio)))
    return name, f"{name}:out"


def _across(found: Wires, transfers: Transfers, members: Mapping[str, Sequence[str]]) -> None:
    """What joins the hosts."""
    samples = {
        (a, b): pooled(transfers.pairs[s, t] for s in members[a] for t in members[b])
        for a, b in permutations(members, 2)
    }
    curve = _Curve.of(pooled(samples.values()))
    if _alike(samples.values()):
        curves = dict.fromkeys(samples, curve)
    else:
        curves = {pair: _Curve.of(of_pair) for pair, of_pair in samples.items()}
    ports = {host: _port(found, transfers, host, devices, curves) for host, devices in members.items()}
    width = {pair: _width(transfers.out.get(pair)) for pair in curves}
    if len(members) > 2 and len(set(map(id, curves.values()))) > 1:
        for (a, b), between in curves.items():
            found.links.append(between.link(ports[a], ports[b], transfers.kind, 1.0, width[a, b]))
        return
    together = next(iter(transfers.both.values()), None) if len(members) == 2 else None
    entry, exit_ = _center(found, "network", "network-switch", transfers.kind, curve, together)
    for a, b in _neighbours(list(members)):
        there, back = curves[a, b], curves[b, a]
        found.links.append(there.link(ports[a], entry, transfers.kind, 0.5, width[a, b]))
        found.links.append(back.link(exit_, ports[a], transfers.kind, 0.5, width[b, a]))


def _neighbours(names: list[str]) -> Iterator[tuple[str, str]]:
    """Each name with the next; the last with the first."""
    return zip(names, [*names[1:], names[0]], strict=True)


def _width(together: Together | None) -> float:
    """How many single transfers are as fast as all that leave a host."""
    return max(1.0, together.ratio) if together is not None else 1.0


def _port(
    found: Wires,
    transfers: Transfers,
    host: str,
    devices: Sequence[str],
    curves: Mapping[tuple[str, str], _Curve],
) -> str:
    """The node by which a host is joined to others: its one device, or a NIC that its devices share."""
    if len(devices) == 1:
        return devices[0]
    nic = f"{host}/nic"
    found.switches.append(Switch(nic, "nic"))
    width = max(curve.bandwidth for (a, b), curve in curves.items() if host in (a, b))
    for device in devices:
        found.links += [_free(device, nic, transfers.kind, width), _free(nic, device, transfers.kind, width)]
    return nic
