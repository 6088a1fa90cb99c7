"""The accelerators that torch sees on this machine as a topology, with NVML's help where that is here."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

from torchplace.errors import TopologyError
from torchplace.placement.topology import gpus
from torchplace.placement.topology.discover import nvml
from torchplace.placement.topology.discover.assemble import assemble
from torchplace.placement.topology.discover.levels import Level
from torchplace.placement.topology.discover.survey import Card, Survey
from torchplace.placement.topology.topology import Topology


def accelerators(n: int, shared: Callable[[], int]) -> Topology | None:
    """The first `n` accelerators; None when torch sees fewer than `n`.

    NVIDIA's GPUs are joined as NVML says. Without NVML, and of other makers, only names and memory are known: they are
    taken to be below one PCIe host bridge, with a warning where that matters. A GPU of a known model has the figures of
    `gpus`, another nominal ones.

    Args:
        n: how many.
        shared: tells the machine's memory (bytes), of which accelerators without memory of their own have a part each.
    """
    import torch

    if not torch.accelerator.is_available() or torch.accelerator.device_count() < n:
        return None
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return None
    properties = [_properties(accelerator.type, index) for index in range(n)]
    if accelerator.type == "cuda" and torch.version.hip is None:
        found = _by_nvml(properties)
        if found is not None:
            return found
    memories = [int(found.total_memory) if found is not None else shared() // n for found in properties]
    return _by_torch(accelerator.type, properties, memories)


def _properties(kind: str, index: int) -> Any:
    """What torch knows of an accelerator; None where its module does not say."""
    import torch

    module = torch.get_device_module(kind)
    return module.get_device_properties(index) if hasattr(module, "get_device_properties") else None


def _by_nvml(properties: list[Any]) -> Topology | None:
    """As NVML has them; None, with a warning where it matters, if it is not here."""
    uuids = [str(found.uuid) for found in properties if hasattr(found, "uuid")]
    if len(uuids) < len(properties):
        return None
    try:
        return nvml.discover("local", uuids, prefix="cuda")
    except TopologyError as error:
        if len(properties) > 1:
            warnings.warn(
                f"{error}; until then nothing is known of NVLinks and PCIe switches, and the GPUs are taken to be below"
                " one host bridge",
                stacklevel=5,
            )
        return None


def _by_torch(kind: str, properties: list[Any], memories: list[int]) -> Topology:
    cards = tuple(map(partial(_card, kind), range(len(properties)), properties, memories))
    levels = dict.fromkeys(combinations([card.name for card in cards], 2), Level.BRIDGE)
    return assemble(Survey("local", cards, levels))


def _card(kind: str, index: int, properties: Any, memory: int) -> Card:
    name = getattr(properties, "name", None)
    model = gpus.find(name, memory) if name else gpus.stand_in(kind, memory)
    return Card(f"{kind}:{index}", model, f"{kind}:{index}", model.pcie, memory)
