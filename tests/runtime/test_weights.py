"""Where weights come from: safetensors files, checkpoint folders, and modules themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from torchplace.errors import OptionError, PlanError
from torchplace.runtime.weights import INDEX, Weights, initial

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}
WANTED = {name: torch.empty(t.shape, device="meta") for name, t in STATE.items()}


def same(found: dict[str, torch.Tensor], names: tuple[str, ...] = ("a.weight", "a.bias")) -> bool:
    return found.keys() == set(names) and all(torch.equal(found[name], STATE[name]) for name in names)


def test_a_file_and_a_folder_of_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    assert same(Weights(tmp_path / "model.safetensors").read(WANTED))
    assert same(Weights(tmp_path).read({**WANTED, "other": torch.empty(1)})), "names that are not there are left out"


def test_a_folder_with_an_index_reads_each_shard_for_what_it_has(tmp_path: Path) -> None:
    for i, (name, tensor) in enumerate(STATE.items()):
        save_file({name: tensor}, tmp_path / f"{i}.safetensors")
    shards = {name: f"{i}.safetensors" for i, name in enumerate(STATE)}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": shards}))
    assert same(Weights(tmp_path).read(WANTED))
    assert same(Weights(tmp_path).read({"a.bias": WANTED["a.bias"]}), ("a.bias",))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_folder_of_torch_distributed_checkpoint(tmp_path: Path, prefix: str) -> None:
    save({prefix + n: t for n, t in STATE.items()}, storage_writer=FileSystemWriter(tmp_path), no_dist=True)
    assert same(Weights(tmp_path).read(WANTED))


def test_values_get_the_dtype_of_the_model(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    found = Weights(tmp_path).read({"a.bias": torch.empty(2, dtype=torch.bfloat16, device="meta")})
    assert found["a.bias"].dtype == torch.bfloat16


def test_what_is_no_source_and_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected a .safetensors file, a folder of them"):
        Weights(tmp_path)
    save_file(STATE, tmp_path / "model.safetensors")
    with pytest.raises(PlanError, match=r"'a.bias' with shape \(2,\); the model expects \(3,\)"):
        Weights(tmp_path).read({"a.bias": torch.empty(3)})


def test_modules_begin_as_they_would_have() -> None:
    torch.manual_seed(0)
    real = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.device("meta"):
        bare = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    torch.manual_seed(0)
    found = initial(bare, bare.state_dict())
    assert all(torch.equal(found[name], tensor) for name, tensor in real.state_dict().items())
    assert {t.device.type for t in bare.state_dict().values()} == {"meta"}, "the model itself stays as it was"


def test_a_module_that_cannot_begin_is_named() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.empty(2, device="meta"))

    with pytest.raises(PlanError, match=r"module '0' is on the meta device and has no reset_parameters\(\)"):
        initial(nn.Sequential(Bare()), {"0.scale": torch.empty(2)})
