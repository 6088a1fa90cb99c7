from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from torchplace.errors import TopologyError
from torchplace.placement.topology.gpus import GPUS, LAUNCH_OVERHEAD, find, gpu, known, stand_in
from torchplace.placement.topology.presets import PRESETS, preset


@pytest.mark.parametrize(
    ("reported", "kind"),
    [
        ("Tesla V100-SXM2-16GB", "v100-sxm2-16gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("A100-SXM4-40GB", "a100-sxm4-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("NVIDIA H200", "h200-sxm-141gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("GeForce RTX 2080 Ti", "rtx-2080-ti"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("Tesla T4", "t4"),
        ("nvidia l40s", "l40s"),
        ("v100-sxm2-16gb", "v100-sxm2-16gb"),
        ("Tesla M40 24GB", "m40-24gb"),
        ("Tesla M40", "m40"),
    ],
)
def test_names_as_drivers_report_them(reported: str, kind: str) -> None:
    model = known(reported)
    assert model is not None
    assert model.kind == kind


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 9090", "", "A100", "Graphics Device", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"]
)
def test_others_are_not_known(name: str) -> None:
    assert known(name) is None


def test_the_same_name_with_another_memory_is_another_card() -> None:
    assert known("NVIDIA GeForce RTX 3060", 12_288 * 2**20) is GPUS["rtx-3060-12gb"]
    assert known("NVIDIA GeForce RTX 3060", 8_192 * 2**20) is None
    assert known("NVIDIA H100 80GB HBM3", 81_559 * 2**20) is GPUS["h100-sxm5-80gb"]
    assert known("Tesla V100-SXM2-32GB", 32_510 * 2**20) is GPUS["v100-sxm2-32gb"]


def test_a_stand_in_is_nominal_and_a_warning_names_what_it_stands_for() -> None:
    with pytest.warns(UserWarning, match=r"GPU 'NVIDIA RTX 9999' with 48.0 GiB is not known: nominal figures"):
        model = find("NVIDIA RTX 9999", 48 * 2**30)
    assert (model.kind, model.memory, model.nominal) == ("rtx-9999", 48 * 2**30, True)
    assert stand_in("").kind == "gpu"
    assert stand_in("Some  odd/name!").device("gpu:0", "cuda:0").kind == "some-odd-name"
    assert find("Tesla T4").nominal is False


def test_a_kind_that_is_given_must_exist() -> None:
    assert gpu("t4") is GPUS["t4"]
    with pytest.raises(
        TopologyError, match=r"no GPU model 'v100-sxm2-16g'; did you mean 'v100-sxm2-16gb'\? \(models: m40"
    ):
        gpu("v100-sxm2-16g")


def test_figures_agree_with_each_other() -> None:
    for kind, model in GPUS.items():
        device = model.device("gpu:0", "cuda:0")
        assert device.kind == kind
        assert device.launch_overhead == LAUNCH_OVERHEAD
        assert 1e12 < device.peak("float32") < 1e15
        assert 1e11 < device.memory_bandwidth < 1e13
        assert 8e9 < device.memory < 3e11
        assert device.peak("float64") <= device.peak("float32") <= device.peak("float16")
        assert device.peak("int8") >= device.peak("bfloat16")
        assert (model.nvlink is None) == (model.nvlinks == 0)
        assert not model.nominal


def test_no_two_models_share_a_name() -> None:
    names = [name.lower() for model in GPUS.values() for name in model.names]
    assert len(names) == len(set(names))


def test_the_documentation_lists_all_models() -> None:
    page = (Path(__file__).parents[4] / "docs/concepts/topologies.md").read_text(encoding="utf-8")
    section = page.split("## GPU models")[1].split("\n## ")[0]
    assert set(re.findall("`([a-z0-9-]+)`", section)) - {"--gpu"} == set(GPUS)


def test_presets_are_made_of_these_models() -> None:
    for name in PRESETS:
        for device in preset(name).devices:
            model = GPUS[device.kind]
            assert device == model.device(device.name, device.torch_device)


def test_a_newer_card_is_no_slower_than_the_older_one_of_its_class() -> None:
    for older, newer in itertools.pairwise(
        ("p100-sxm2-16gb", "v100-sxm2-16gb", "a100-sxm4-80gb", "h100-sxm5-80gb", "b200-sxm-180gb")
    ):
        for dtype in ("float32", "float16", "bfloat16", "int8"):
            assert GPUS[older].device("a", "cpu").peak(dtype) <= GPUS[newer].device("a", "cpu").peak(dtype)
        assert GPUS[older].memory_bandwidth < GPUS[newer].memory_bandwidth


def test_nvlinks_of_a_model_without_them_are_an_error() -> None:
    with pytest.raises(TopologyError, match="'gpu:0' is joined by NVLink, which its model 't4' does not have"):
        GPUS["t4"].bonded("gpu:0", "gpu:1", 2)
    there, back = GPUS["v100-sxm2-16gb"].bonded("gpu:0", "gpu:1", 2)
    assert (there.kind, there.bandwidth) == (back.kind, back.bandwidth) == ("nvlink2-x2", 47.9e9)
    assert GPUS["h100-sxm5-80gb"].switched("gpu:0", "nvswitch")[0].lanes == 18
