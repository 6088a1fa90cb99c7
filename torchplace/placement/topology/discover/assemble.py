"""From a survey of a machine to its topology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.discover.levels import Groups, Level
from torchplace.placement.topology.discover.survey import Card, Survey
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.parts import sockets
from torchplace.placement.topology.parts.pcie import Pcie
from torchplace.placement.topology.switch import CPU_SOCKET, HOST_BRIDGE, HOST_MEMORY, Switch
from torchplace.placement.topology.topology import Topology

MEMORY_BANDWIDTH = 100e9
"""Bytes/s of a socket's memory, nominal: four channels of DDR4-3200 are 102.4 GB/s on paper."""


def assemble(survey: Survey) -> Topology:
    """The topology of a machine: sockets, host bridges, PCIe switches as its levels ask for them, NVLinks.

    Of several ways to build what the levels say, the one with the fewest nodes is taken: GPUs that are PXB to each
    other are below two switches of one, those that are PHB or NODE to all others are plugged into the CPU.
    """
    built = _Builder(survey)
    built.sockets()
    built.nvlinks()
    devices = tuple(map(_device, survey.cards))
    return Topology(survey.name, devices, tuple(built.switches), tuple(built.links))


def _device(card: Card) -> Device:
    device = card.model.device(card.name, card.torch_device, card.memory)
    return replace(device, peer_to_peer=card.reaches_peers)


class _Builder:
    """Adds switches and links, from the sockets down."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._slots = {card.name: card.pcie for card in survey.cards}
        self._fastest = max(self._slots.values(), key=lambda slot: slot.bandwidth, default=Pcie(3))
        self._names = [*self._slots, *survey.nics]
        self._groups = Groups(self._names, survey.levels)
        self._numbers: dict[str, int] = {}
        self.switches: list[Switch] = []
        self.links: list[Link] = []

    def _add(self, stem: str, kind: str) -> str:
        number = self._numbers[stem] = self._numbers.get(stem, -1) + 1
        self.switches.append(Switch(f"{stem}:{number}", kind))
        return f"{stem}:{number}"

    def sockets(self) -> None:
        """A socket for each NUMA node, all joined, each with memory where a GPU needs that."""
        staged = any(not card.reaches_peers for card in self._survey.cards)
        found = []
        for members in self._groups.parts(self._names, Level.NODE):
            found.append(self._add("socket", CPU_SOCKET))
            if staged:
                memory = self._add("memory", HOST_MEMORY)
                self.links += sockets.memory(found[-1], memory, MEMORY_BANDWIDTH)
            self._bridges(found[-1], members)
        for one, other in combinations(found, 2):
            self.links += sockets.joint(one, other, self._survey.cpu)

    def _bridges(self, socket: str, members: Sequence[str]) -> None:
        """A node for each host bridge of a socket that has several."""
        parts = self._groups.parts(members, Level.BRIDGE)
        for part in parts:
            into = socket
            if len(parts) > 1:
                into = self._add("bridge", HOST_BRIDGE)
                self.links += sockets.host_bridge(into, socket)
            self._hierarchies(into, part)

    def _hierarchies(self, into: str, members: Sequence[str]) -> None:
        """What is below one port of a host bridge: a card, a switch with cards, or a switch with switches."""
        for part in self._groups.parts(members, Level.SWITCHES):
            below = self._groups.parts(part, Level.SWITCH)
            if len(below) == 1:
                self._switch(into, below[0], alone=len(part) == 1)
                continue
            top = self._add("pex", "pcie-switch")
            self.links += self._fastest.uplink(top, into)
            for cards in below:
                self._switch(top, cards)

    def _switch(self, into: str, cards: Sequence[str], alone: bool = False) -> None:
        if not alone:
            switch = self._add("pcie", "pcie-switch")
            self.links += self._fastest.uplink(switch, into)
            into = switch
        for card in cards:
            slot = self._slots.get(card)
            self.links += slot.plug(card, into) if slot else self._nic(card, into)

    def _nic(self, name: str, into: str) -> tuple[Link, Link]:
        self.switches.append(Switch(name, "nic"))
        return self._fastest.slot(name, into)

    def nvlinks(self) -> None:
        """The NVLinks between GPUs, and those to NVSwitches."""
        models = {card.name: card.model for card in self._survey.cards}
        for (one, other), number in self._survey.bonded.items():
            # A pair of two models is as fast as the slower of them.
            slower = min((models[one], models[other]), key=lambda model: model.nvlink.bandwidth if model.nvlink else 0)
            self.links += slower.bonded(one, other, number)
        if self._survey.switched:
            self.switches.append(Switch("nvswitch", "nvswitch"))
        for name, number in self._survey.switched.items():
            self.links += models[name].switched(name, "nvswitch", number)
