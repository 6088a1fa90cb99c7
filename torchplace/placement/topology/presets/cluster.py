"""Clusters of any preset by name: "dgx-h100*16@ndr400" is sixteen DGX H100 on InfiniBand NDR.

Without a network, "dgx-h100*16", boxes are on the one that the machine is sold with (`Machine.network`).

Each box keeps its own structure, with "node0/" and so on before every name, and gets its NICs, where the machine has
them: "node3/nic:0". All NICs are joined to one switch, "network" (`networks` says how idealised that is). A box whose
NICs are more than one is multi-rail: routes use the NIC that is nearest to each end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import did_you_mean
from torchplace.placement.topology.corun import CoRun
from torchplace.placement.topology.link import Link, both_ways
from torchplace.placement.topology.parts.networks import NETWORKS, Network
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.presets.registry import PRESETS
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

MAX_BOXES = 4096
"""Boxes that a cluster has at most; a name with a slip in it should not fill the memory."""

_PATTERN = re.compile(r"([^*@]*)\*([^*@]*)(?:@([^*@]*))?")


class Cluster(NamedTuple):
    """What the name of a cluster says."""

    preset: str
    boxes: int
    network: str

    def __str__(self) -> str:
        return f"{self.preset}*{self.boxes}@{self.network}"


def is_cluster(name: str) -> bool:
    """Whether a name looks like that of a cluster: it has a "*" or an "@"."""
    return "*" in name or "@" in name


def parse(name: str) -> Cluster:
    """Takes "dgx-h100*16@ndr400" apart.

    Raises:
        TopologyError: it has another form, or names an unknown preset or network, or a number that is none.
    """
    found = _PATTERN.fullmatch(name)
    if not found:
        raise TopologyError(f"cluster {name!r}: expected PRESET*N or PRESET*N@NETWORK, such as 'dgx-h100*16@ndr400'")
    preset, count, network = found.groups()
    if network is None:
        network = PRESETS[preset].network if preset in PRESETS else next(iter(NETWORKS))
    faults = [*_unknown("preset", preset, PRESETS), *_miscounted(count), *_unknown("network", network, NETWORKS)]
    if faults:
        raise TopologyError(f"cluster {name!r}: {'; '.join(faults)}")
    return Cluster(preset, int(count), network)


def _unknown(what: str, name: str, known: dict[str, Machine] | dict[str, Network]) -> Iterator[str]:
    if name not in known:
        hint = did_you_mean(name, known)
        yield f"no {what} {name!r}{hint} ({what}s: {', '.join(known)})"


def _miscounted(count: str) -> Iterator[str]:
    if not (re.fullmatch("[0-9]{1,9}", count) and 1 <= int(count) <= MAX_BOXES):
        yield f"{count!r} boxes, expected a whole number from 1 to {MAX_BOXES}"


def cluster(preset: str, boxes: int, network: str) -> Topology:
    """Some boxes of one preset, joined by a network; the arguments are as `parse` returns them.

    Cost: linear in the boxes' devices, switches and links.
    """
    machine, cable = PRESETS[preset], NETWORKS[network]
    box = machine.build()
    nodes = [_Node(f"node{i}/", box, machine, cable) for i in range(boxes)]
    return Topology(
        str(Cluster(preset, boxes, network)),
        tuple(replace(device, name=node.prefix + device.name) for node in nodes for device in box.devices),
        (Switch("network", "network-switch"), *(switch for node in nodes for switch in node.switches())),
        tuple(link for node in nodes for link in node.links()),
        tuple(group for node in nodes for group in node.coruns()),
        box.host,
    )


class _Node:
    """One box of a cluster: what it has, named after it, and its NICs."""

    def __init__(self, prefix: str, box: Topology, machine: Machine, network: Network) -> None:
        self.prefix, self.box, self.machine, self.network = prefix, box, machine, network

    def switches(self) -> Iterator[Switch]:
        for switch in self.box.switches:
            yield Switch(self.prefix + switch.name, switch.kind)
        for number in range(len(self.machine.nics)):
            yield Switch(f"{self.prefix}nic:{number}", "nic")

    def links(self) -> Iterator[Link]:
        for link in self.box.links:
            yield replace(link, source=self.prefix + link.source, target=self.prefix + link.target)
        network = self.network
        for number, where in enumerate(self.machine.nics):
            nic = f"{self.prefix}nic:{number}"
            yield from self.machine.slot.slot(nic, self.prefix + where)
            yield from both_ways(nic, "network", network.name, network.bandwidth, network.latency / 2)

    def coruns(self) -> Iterator[CoRun]:
        for group in self.box.coruns:
            devices = tuple(self.prefix + device for device in group.devices)
            yield replace(group, name=self.prefix + group.name, devices=devices)
