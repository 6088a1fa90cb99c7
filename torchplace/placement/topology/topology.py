"""A topology: devices, switches and links, as a graph with routes."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import did_you_mean, listed, require_text
from torchplace.placement.topology.corun import CoRun
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.host import Host
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.route import Route
from torchplace.placement.topology.routing import Network, unreachable
from torchplace.placement.topology.staging import Staging, unstaged
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.twins import Twins
from torchplace.placement.topology.ways import Ways

if TYPE_CHECKING:
    import networkx as nx


def _why(source: str, targets: list[str], alone: set[str]) -> str:
    """What an error adds where a device without peer-to-peer has no route: what its routes need."""
    culprit = source if source in alone else next((target for target in targets if target in alone), None)
    if culprit is None:
        return ""
    ways = "its transfers go to and from a switch of kind 'host-memory' in its box"
    return f" ({culprit!r} cannot do peer-to-peer: {ways})"


@dataclass(frozen=True)
class Topology:
    """Devices, the switches between them, and the links that join both.

    Immutable, and valid once it exists: names are unique, links join known nodes, and every pair of devices
    has a route in both directions. Checking that is near-linear in devices + switches + links.

    Attributes:
        name: what people call it; not a part of its structure.
        devices: in the order that placements index them.
        switches: what forwards data and runs no ops.
        links: one direction each, at most one for each ordered pair of nodes.
        coruns: groups of devices that slow each other; a device is in one at most.
        host: what calls and instructions cost beside the ops.

    Raises:
        TopologyError: something is wrong with it; the message names every fault found.
    """

    name: str
    devices: tuple[Device, ...]
    switches: tuple[Switch, ...] = ()
    links: tuple[Link, ...] = ()
    coruns: tuple[CoRun, ...] = ()
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        require_text("topology", "name", self.name)
        for parts in ("devices", "switches", "links", "coruns"):
            object.__setattr__(self, parts, tuple(getattr(self, parts)))
        faults = list(self._faults())
        if faults:
            raise TopologyError(f"topology {self.name!r}: {'; '.join(faults)}")

    def _faults(self) -> Iterable[str]:
        if not self.devices:
            yield "has no devices, expected one or more"
        known = Counter([*self.device_names, *(switch.name for switch in self.switches)])
        yield from (f"{count} devices or switches are named {name!r}, expected one"
                    for name, count in known.items() if count > 1)  # fmt: skip
        ways = Counter((link.source, link.target) for link in self.links)
        yield from (f"{count} links go from {source!r} to {target!r}, expected one (add their bandwidths up)"
                    for (source, target), count in ways.items() if count > 1)  # fmt: skip
        loose = [end for way in ways for end in way if end not in known]
        yield from (f"a link joins {end!r}, which is no device or switch{did_you_mean(end, known)}"
                    for end in dict.fromkeys(loose))  # fmt: skip
        yield from self._corun_faults()
        if not loose:
            yield from self._unreachable()

    def _corun_faults(self) -> Iterable[str]:
        members = Counter(device for group in self.coruns for device in group.devices)
        yield from (f"device {name!r} is in {count} co-run groups, expected one"
                    for name, count in members.items() if count > 1)  # fmt: skip
        yield from (f"a co-run group names {name!r}, which is no device{did_you_mean(name, self.device_names)}"
                    for name in members if name not in self._positions)  # fmt: skip

    def _unreachable(self) -> Iterable[str]:
        alone = {device.name for device in self.devices if not device.peer_to_peer}
        if not alone:
            missing = unreachable(self.device_names, [switch.name for switch in self.switches], self.links)
        else:
            missing = unstaged(self.devices, self.switches, self.links)
        for source, targets in missing.items():
            yield f"there is no route from {source!r} to {listed(map(repr, targets))}{_why(source, targets, alone)}"

    @cached_property
    def device_names(self) -> tuple[str, ...]:
        """Names of the devices, in order."""
        return tuple(device.name for device in self.devices)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.device_names)}

    def index(self, name: str) -> int:
        """Position of a device in `devices`.

        Raises:
            TopologyError: no device has that name.
        """
        try:
            return self._positions[name]
        except KeyError:
            raise TopologyError(
                f"topology {self.name!r} has no device {name!r}{did_you_mean(str(name), self._positions)}"
                f" (devices: {listed(self.device_names)})"
            ) from None

    def device(self, name: str) -> Device:
        """The device with that name.

        Raises:
            TopologyError: no device has that name.
        """
        return self.devices[self.index(name)]

    @cached_property
    def _network(self) -> Network:
        return Network(self.device_names, [switch.name for switch in self.switches], self.links)

    @cached_property
    def _ways(self) -> Ways:
        return Ways(self._network, self.switches)

    @cached_property
    def _routes(self) -> dict[tuple[str, str], Route]:
        return {}

    @cached_property
    def _twins(self) -> Twins:
        return Twins(self.devices, self.switches, self.links)

    @cached_property
    def _staging(self) -> Staging:
        return Staging(self._ways, self.devices, self.switches, self.links)

    def route(self, source: str, target: str) -> Route:
        """The way from one device to another: the fastest for `REFERENCE_BYTES`, then the fewest hops.

        Devices other than the two ends forward nothing, and what can stay in a box does not leave it (`ways`).
        Where one of the two cannot do peer-to-peer, the way goes through host memory (`staging`), and may pass a
        switch twice. The ends may be switches too, to cost a transfer from host memory. Empty when `source` is
        `target`. Cached: one or two searches for each source (`RouteTable`), in one box of those alike (`twins`).

        Raises:
            TopologyError: a name is unknown, or an end is a switch that has no way there.
        """
        found = self._routes.get((source, target))
        if found is None:
            found = self._routes[source, target] = self._find(source, target)
        return found

    def _find(self, source: str, target: str) -> Route:
        for name in (source, target):
            if name not in self._network.index:
                self.index(name)
        links = self._links(source, target)
        if links is None:
            raise TopologyError(f"topology {self.name!r} has no route from {source!r} to {target!r}")
        return Route(links)

    def _links(self, source: str, target: str) -> tuple[Link, ...] | None:
        """The links of a route: searched, or as between other boxes that are built like these."""
        like = self._twins.pair(source, target)
        if like == (source, target):
            return self._search(source, target)
        if like not in self._routes:
            links = self._search(*like)
            if links is None:
                return None
            self._routes[like] = Route(links)
        links = self._twins.translated(self._routes[like].links, source, target)
        return self._search(source, target) if links is None else links

    def _search(self, source: str, target: str) -> tuple[Link, ...] | None:
        if self._staging.stages(source, target):
            return self._staging.links(source, target)
        return self._ways.best(source, target)

    def route_like(self, source: str, target: str) -> Route:
        """A route that costs what `route` does, of the same sort: one for all pairs of boxes that are built alike.

        Raises:
            TopologyError: as of `route`.
        """
        return self.route(*self._twins.pair(source, target))

    @cached_property
    def digest(self) -> str:
        """16 hex digits of a SHA-256 over names and kinds of devices (in order), of switches and of links.

        Speeds, capacities and the topology's own name are not in it: a plan stays valid when the same machine
        is measured again.
        """
        structure = [
            [[device.name, device.kind] for device in self.devices],
            sorted([switch.name, switch.kind] for switch in self.switches),
            sorted([link.source, link.target, link.kind] for link in self.links),
        ]
        return hashlib.sha256(json.dumps(structure).encode()).hexdigest()[:16]

    @cached_property
    def _used(self) -> dict[tuple[int, ...], Topology]:
        return {}

    @property
    def shares_threads(self) -> bool:
        """Whether threads depend on how many devices a program uses."""
        return any(group.threads is not None for group in self.coruns)

    def used(self, names: Iterable[str]) -> Topology:
        """This topology as a program sees it that runs ops on some of the devices: shared threads are dealt out.

        Members of a group that shares threads, and have no number of their own, get an equal part, 1 at least. Their
        peak grows with their threads beyond what they have when all are used. Devices without such a group stay.
        """
        if not self.shares_threads:
            return self
        running = set(names)
        counts = tuple(max(1, len(running.intersection(group.devices))) for group in self.coruns)
        if counts not in self._used:
            self._used[counts] = self._dealt(counts)
        return self._used[counts]

    def _dealt(self, counts: tuple[int, ...]) -> Topology:
        shares: dict[str, tuple[int, int]] = {}
        for group, count in zip(self.coruns, counts, strict=True):
            if group.threads is not None:
                share = max(1, group.threads // count), max(1, group.threads // len(group.devices))
                shares.update(dict.fromkeys(group.devices, share))
        devices = (d.with_threads(*shares[d.name]) if d.name in shares else d for d in self.devices)
        dealt = replace(self, devices=tuple(devices))
        for table in ("_network", "_ways", "_routes", "_twins", "_staging"):  # the wires are the same
            dealt.__dict__[table] = getattr(self, table)
        return dealt

    def to_networkx(self) -> nx.DiGraph[str]:
        """As a networkx graph: nodes have `role` ("device" or "switch") and `kind`, edges what a link has."""
        import networkx

        graph: nx.DiGraph[str] = networkx.DiGraph(name=self.name)
        for device in self.devices:
            graph.add_node(device.name, role="device", kind=device.kind, memory=device.memory)
        for switch in self.switches:
            graph.add_node(switch.name, role="switch", kind=switch.kind)
        for link in self.links:
            graph.add_edge(link.source, link.target, kind=link.kind, bandwidth=link.bandwidth, latency=link.latency)
        return graph

    def to_dict(self) -> dict[str, Any]:
        """As plain lists, dicts, text and numbers: what its files hold (`files.py` documents the fields)."""
        from torchplace.placement.topology import files

        return files.to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Topology:
        """The topology that `to_dict` gave.

        Raises:
            TopologyError: a field is missing, unknown, or has a wrong value; all of them are named.
        """
        from torchplace.placement.topology import files

        return files.from_dict(data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Topology:
        """Reads a topology from a YAML or JSON file, or a saved `nvidia-smi topo -m` (.txt), told apart by its suffix.

        Raises:
            TopologyError: the file cannot be read, or is malformed; names the file, the fields and their values, or
                the line.
        """
        from torchplace.placement.topology import resolve

        return resolve.load(path)

    @classmethod
    def from_matrix(
        cls, text: str, gpu: str | None = None, pcie: str | None = None, cpu: str | None = None
    ) -> Topology:
        """The machine of which `nvidia-smi topo -m` printed `text`; `discover.from_matrix` says what the rest is.

        Raises:
            TopologyError: the text is no such matrix; names the line.
            OptionError: an argument has a value that it cannot have.
        """
        from torchplace.placement.topology.discover import from_matrix

        return from_matrix.read_matrix(text, gpu, pcie, cpu)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes itself to a YAML or JSON file, by suffix; the file changes as a whole or not at all.

        Raises:
            TopologyError: the suffix is another one, or the file cannot be written.
        """
        from torchplace.placement.topology import files

        files.save(self, path)

    @classmethod
    def preset(cls, name: str) -> Topology:
        """A documented machine by name, such as "dgx1-v100", or a cluster of some, "dgx-h100*16@ndr400".

        Raises:
            TopologyError: no preset has that name; lists those that exist.
        """
        from torchplace.placement.topology import presets

        return presets.preset(name)

    @classmethod
    def local(cls, n: int = 2, threads: int | None = None) -> Topology:
        """`n` devices of this machine: its accelerators, or CPU devices (`local.local` says more).

        Raises:
            OptionError: `n` or `threads` is not a whole number above 0.
        """
        from torchplace.placement.topology import local

        return local.local(n, threads)

    @classmethod
    def resolve(cls, what: object = None) -> Topology:
        """The topology that an option means: None, a Topology, a preset or cluster, "local:3", "nvml", or a file.

        Raises:
            TopologyError: no such preset, cluster or file, or the file is malformed.
            OptionError: `what` is of another type, or "local:" is followed by no whole number above 0.
        """
        from torchplace.placement.topology import resolve

        return resolve.resolve(what)

    def __reduce__(self) -> tuple[type[Topology], tuple[object, ...]]:
        # Without the cached tables, which are large and quickly made again.
        return Topology, (self.name, self.devices, self.switches, self.links, self.coruns, self.host)

    def __str__(self) -> str:
        from torchplace.placement.topology import draw

        return draw.draw_text(self)
