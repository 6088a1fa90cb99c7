"""The weights of a step's model: gathered to one file, spread from files, or made on the spot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load

from torchplace.errors import OptionError, PlanError

INDEX = "model.safetensors.index.json"
"""The file of a Hugging Face checkpoint folder that says which shard has which tensor."""


class Weights:
    """Where a model's parameters and buffers come from: read one by one, when they are asked for."""

    def __init__(self, source: str | Path) -> None:
        """Look at a source.

        Args:
            source: a `.safetensors` file, or a folder of such shards with or without an index (a checkpoint folder of
                Hugging Face), or a folder that `torch.distributed.checkpoint` wrote.

        Raises:
            OptionError: it is none of these.
        """
        self.path = Path(source)
        self._files: dict[str, Path] = {}
        self._dcp = (self.path / ".metadata").exists()
        if not self._dcp:
            self._files = dict(_shards(self.path))
        if not self._dcp and not self._files:
            raise OptionError(
                f"weights is {str(source)!r}; expected a .safetensors file, a folder of them, or a folder that "
                "torch.distributed.checkpoint wrote"
            )

    def read(self, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors by name, like those given in shape and dtype, on the CPU; without names that the source lacks."""
        return self._from_dcp(wanted) if self._dcp else self._from_shards(wanted)

    def _from_shards(self, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for path in sorted({self._files[name] for name in wanted if name in self._files}):
            with safe_open(path, framework="pt") as file:
                for name in (n for n in wanted if self._files.get(n) == path):
                    found[name] = file.get_tensor(name).to(wanted[name].dtype)
        return _like(found, wanted, self.path)

    def _from_dcp(self, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        reader = FileSystemReader(self.path)
        known = reader.read_metadata().state_dict_metadata
        prefix = "model." if any(key.startswith("model.") for key in known) else ""
        empty = {prefix + n: torch.empty(t.shape, dtype=t.dtype) for n, t in wanted.items() if prefix + n in known}
        load(empty, storage_reader=reader, no_dist=True)
        return {name.removeprefix(prefix): tensor for name, tensor in empty.items()}


def _like(found: dict[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise PlanError(
                f"{str(path)!r} has {name!r} with shape {tuple(tensor.shape)}; the model expects "
                f"{tuple(wanted[name].shape)}"
            )
    return found


def _shards(path: Path) -> Iterator[tuple[str, Path]]:
    """Name of a tensor -> the file that has it."""
    if (path / INDEX).exists():
        for name, shard in json.loads((path / INDEX).read_text())["weight_map"].items():
            yield name, path / shard
        return
    for file in (
        sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.suffix == ".safetensors" else []
    ):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # it is no mapping
                yield name, file


def initial(model: nn.Module, wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters and buffers as their modules would begin, by name; what is not wanted is made and dropped again.

    Modules are gone through in order, each with `reset_parameters` or the model's own `_init_weights` (as models of
    Hugging Face have it): all ranks draw the same numbers, and no more than one module is in memory at a time.

    Raises:
        PlanError: a module on the meta device has no way to begin.
    """
    names = {id(t): n for n, t in [*model.named_buffers(), *model.named_parameters()]}
    made: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        own = {**module._parameters, **module._buffers}
        if any(t is not None and t.device.type == "meta" for t in own.values()):
            begun = _begun(model, module, path)
            for key, tensor in own.items():
                name = names.get(id(tensor))
                if name is not None and name in wanted and name not in made and key in begun:
                    made[name] = begun[key]
    return made


def _begun(model: nn.Module, module: nn.Module, path: str) -> dict[str, torch.Tensor]:
    """The tensors that a module itself has, as it would begin."""
    tables = dict(module._parameters), dict(module._buffers)
    whole: Any = model
    part: Any = module
    with torch.no_grad():
        for table, held in ((module._parameters, tables[0]), (module._buffers, tables[1])):
            for key, tensor in held.items():
                if tensor is not None and tensor.device.type == "meta":
                    real: Any = torch.empty_like(tensor, device="cpu")
                    table[key] = nn.Parameter(real, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else real
        try:
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
            elif hasattr(whole, "_init_weights"):
                whole._init_weights(part)
            else:
                raise PlanError(
                    f"module {path or type(module).__name__!r} is on the meta device and has no reset_parameters(); "
                    "pass weights=, or build the model with its weights"
                )
            both = {**module._parameters, **module._buffers}
            return {key: tensor.detach() for key, tensor in both.items() if tensor is not None}
        finally:
            module._parameters.update(tables[0])
            module._buffers.update(tables[1])
