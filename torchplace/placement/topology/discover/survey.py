"""A survey: what is known of a machine's GPUs, NICs and what joins them, before it is a topology."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import listed
from torchplace.placement.topology.discover.levels import Level, Pair
from torchplace.placement.topology.gpus import GpuModel
from torchplace.placement.topology.parts.pcie import Pcie

MOST_NVLINKS = 18
"""NVLinks of a GPU with the most of them, of a model that is not known: those of H100 and B200."""


@dataclass(frozen=True)
class Card:
    """One GPU of a machine.

    Attributes:
        name: as the topology will have it: "gpu:0".
        model: what it is.
        torch_device: such as "cuda:0".
        pcie: its slot.
        memory: bytes, where the machine reports them.
        peer_to_peer: whether the driver offers it over PCIe; None for what its model says.
    """

    name: str
    model: GpuModel
    torch_device: str
    pcie: Pcie
    memory: int | None = None
    peer_to_peer: bool | None = None

    @property
    def reaches_peers(self) -> bool:
        """Whether others may read and write its memory over PCIe."""
        return self.model.peer_to_peer if self.peer_to_peer is None else self.peer_to_peer


@dataclass(frozen=True)
class Survey:
    """What is known of a machine.

    Attributes:
        name: of the topology.
        cards: its GPUs.
        levels: how far its cards and NICs are from each other over PCIe; pairs that are not known are left out.
        nics: names of its NICs.
        bonded: NVLinks that join two GPUs directly.
        switched: NVLinks of a GPU to NVSwitches.
        cpu: what its sockets are, as `parts.sockets` names them.
    """

    name: str
    cards: tuple[Card, ...]
    levels: Mapping[Pair, Level] = field(default_factory=dict)
    nics: tuple[str, ...] = ()
    bonded: Mapping[Pair, int] = field(default_factory=dict)
    switched: Mapping[str, int] = field(default_factory=dict)
    cpu: str = "skylake"


def split_nvlinks(cards: Iterable[Card], counts: Mapping[Pair, int]) -> tuple[dict[Pair, int], dict[str, int]]:
    """Tells NVLinks that join two GPUs directly from those to NVSwitches, where only numbers of pairs are known.

    GPUs whose numbers add up to more NVLinks than their model has are behind NVSwitches: each pair then has all of the
    links of its ends.

    Returns:
        NVLinks of pairs that are joined directly, and NVLinks of each GPU to NVSwitches.

    Raises:
        TopologyError: a number is more than a model has, or some GPUs behind NVSwitches are said not to be joined.
    """
    models = {card.name: card.model for card in cards}
    for (one, other), number in counts.items():
        for name in (one, other):
            if name not in models:
                raise TopologyError(f"NV{number} between {one} and {other}: NVLinks join GPUs alone")
            if number > _most(models[name]):
                raise TopologyError(f"NV{number} between {one} and {other}, but {name} {_has(models[name])}")
    bonded: dict[Pair, int] = dict(counts)
    switched: dict[str, int] = {}
    for group in _joined(counts):
        sums = {name: sum(number for pair, number in counts.items() if name in pair) for name in group}
        if any(sums[name] > _most(models[name]) for name in group):
            switched |= _switched(group, counts)
            bonded = {pair: number for pair, number in bonded.items() if pair[0] not in group}
    return bonded, switched


def _most(model: GpuModel) -> int:
    return MOST_NVLINKS if model.nominal else model.nvlinks


def _has(model: GpuModel) -> str:
    return f"is of model {model.kind!r}, which has {_most(model) or 'no'} NVLinks; give the model that it is"


def _joined(counts: Mapping[Pair, int]) -> list[set[str]]:
    groups: list[set[str]] = []
    for pair in counts:
        touched = [group for group in groups if not group.isdisjoint(pair)]
        groups = [group for group in groups if group not in touched] + [set(pair).union(*touched)]
    return groups


def _switched(group: set[str], counts: Mapping[Pair, int]) -> dict[str, int]:
    lanes = {name: max(number for pair, number in counts.items() if name in pair) for name in sorted(group)}
    wrong = [
        f"{one} and {other}"
        for one in lanes
        for other in lanes
        if one < other and (counts.get((one, other)) or counts.get((other, one))) != min(lanes[one], lanes[other])
    ]
    if wrong:
        raise TopologyError(
            f"{listed(sorted(group))} have more NVLinks than can join them directly, so they are behind NVSwitches,"
            f" but {listed(wrong)} are not joined by as many"
        )
    return lanes
