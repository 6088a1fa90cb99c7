"""The GPU models that are known: one file an architecture, each figure with its public source.

Presets, `nvidia-smi` matrices and the discovery of this machine share them. A model that is not here gets a nominal
stand-in, which says so (`stand_in`).
"""

from __future__ import annotations

import re
import warnings

from torchplace.errors import TopologyError
from torchplace.placement.topology.checks import did_you_mean
from torchplace.placement.topology.gpus import (
    ada,
    ampere,
    ampere_graphics,
    blackwell,
    hopper,
    maxwell,
    pascal,
    turing,
    volta,
)
from torchplace.placement.topology.gpus.model import LAUNCH_OVERHEAD, GpuModel
from torchplace.placement.topology.parts.nvlink import NVLINK3
from torchplace.placement.topology.parts.pcie import PCIE3

_FILES = (maxwell, pascal, volta, turing, ampere, ampere_graphics, ada, hopper, blackwell)
GPUS: dict[str, GpuModel] = {model.kind: model for file in _FILES for model in file.MODELS}
"""The models by kind, from old to new."""

_MAKERS = re.compile(r"^(nvidia|tesla|geforce|quadro)[\s-]+")
_SLACK = 0.15  # of the memory that a model has: how far what is reported may be from it


def _plain(name: str) -> str:
    """A name as it is compared: without the maker, "A100-SXM4-80GB" as "a100 sxm4 80gb"."""
    plain = name.strip().lower()
    while (shorter := _MAKERS.sub("", plain)) != plain:
        plain = shorter
    return re.sub(r"[\s_-]+", " ", plain)


_BY_NAME = {_plain(name): model for model in GPUS.values() for name in (*model.names, model.kind)}


def known(name: str, memory: int | None = None) -> GpuModel | None:
    """The model that a driver, or torch, calls so; None where there is none.

    Args:
        name: such as "NVIDIA A100-SXM4-80GB", or a kind.
        memory: bytes that are reported; a card of the same name with another capacity is another model.
    """
    model = _BY_NAME.get(_plain(name))
    if model is None or (memory is not None and abs(memory - model.memory) > _SLACK * model.memory):
        return None
    return model


def stand_in(name: str, memory: int | None = None) -> GpuModel:
    """A nominal model for a GPU that is not known: 10 TFLOP/s, 500 GB/s, PCIe 3, any number of NVLink 3.

    Args:
        name: as it is reported; its kind is made from it.
        memory: bytes; None for 16 GB.
    """
    kind = re.sub(r"[^a-z0-9.]+", "-", _plain(name)).strip("-") or "gpu"
    return GpuModel(kind, (name,), memory or 16 * 10**9, {"float32": 10e12}, 500e9, PCIE3, nvlink=NVLINK3, nominal=True)


def find(name: str, memory: int | None = None) -> GpuModel:
    """The model that is reported, or a stand-in for it, with a warning that names it."""
    model = known(name, memory)
    if model is None:
        model = stand_in(name, memory)
        size = f" with {memory / 2**30:.1f} GiB" if memory else ""
        warnings.warn(
            f"GPU {name!r}{size} is not known: nominal figures stand in for it (10 TFLOP/s, 500 GB/s, PCIe 3);"
            " write the topology to a file and correct them there, or measure it",
            stacklevel=3,
        )
    return model


def gpu(kind: str) -> GpuModel:
    """The model of a kind, as an option gives it.

    Raises:
        TopologyError: no model is called so; lists those that are.
    """
    model = known(kind)
    if model is None:
        raise TopologyError(
            f"no GPU model {kind!r}{did_you_mean(kind.lower(), GPUS)} (models: {', '.join(GPUS)}); of another one,"
            " write the topology to a file and put its figures there"
        )
    return model


__all__ = ["GPUS", "LAUNCH_OVERHEAD", "GpuModel", "find", "gpu", "known", "stand_in"]
