"""`torchplace topo` as a user types it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.cli.typed import Run, assert_one_message
from torchplace.placement.topology import Topology
from torchplace.placement.topology.figures import CpuFigures, write_figures
from torchplace.placement.topology.local import pair_threads

MATRIX = "\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tNV2\t0-3\nGPU1\tNV2\t X \t0-3\n"


@pytest.fixture
def matrix(folder: Path) -> str:
    (folder / "matrix.txt").write_text(MATRIX)
    (folder / "broken.txt").write_text(MATRIX.replace("NV2\t0-3\n", "FAST\t0-3\n", 1))
    return "matrix.txt"


def test_as_text(torchplace: Run) -> None:
    drawn = torchplace("topo", "dgx1-v100").stdout
    assert "8 x  v100-sxm2-16gb" in drawn
    assert "├─ pcie:0 " in drawn
    assert "gpu:0  X      NV1    NV1    NV2    NV2    SYS    SYS    SYS" in drawn


def test_as_json(torchplace: Run) -> None:
    drawn = torchplace("topo", "big-sur", "--json")
    assert len(json.loads(drawn.stdout)["devices"]) == 8


def test_for_graphviz(torchplace: Run) -> None:
    drawn = torchplace("topo", "big-sur", "--dot").stdout
    assert drawn.startswith('graph "big-sur" {')
    assert drawn.count(" -- ") == 10


def test_large_ones_are_short_unless_all_is_asked_for(torchplace: Run) -> None:
    short = torchplace("topo", "dgx-a100*125@hdr200").stdout.splitlines()
    assert len(short) < 100
    assert max(map(len, short)) < 160
    assert len(torchplace("topo", "dgx-a100*4@hdr200", "--full").stdout.splitlines()) > 150


@pytest.mark.parametrize(("option", "file"), [("--export", "box.yaml"), ("--out", "box.json")])
def test_a_file_that_is_written_can_be_read(folder: Path, torchplace: Run, option: str, file: str) -> None:
    assert torchplace("topo", "dgx2", option, file).returncode == 0
    assert Topology.load(folder / file) == Topology.preset("dgx2")
    assert "16 x  v100-sxm3-32gb" in torchplace("topo", file).stdout


def test_a_saved_matrix(torchplace: Run, matrix: str) -> None:
    drawn = torchplace("topo", matrix, "--gpu", "v100-sxm2-16gb", "--pcie", "3x8")
    assert drawn.stderr == ""
    assert "nvlink2-x2 47.9 GB/s to gpu:1" in drawn.stdout
    assert "pcie3-x8 6 GB/s" in drawn.stdout


def test_a_saved_matrix_without_a_model_draws_with_a_warning_of_one_line(torchplace: Run, matrix: str) -> None:
    drawn = torchplace("topo", matrix)
    assert drawn.returncode == 0
    assert drawn.stderr.startswith("warning: matrix matrix.txt does not say which GPUs these are")
    assert drawn.stderr.count("\n") == 1


def test_a_matrix_from_the_standard_input(torchplace: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(MATRIX))
    assert "2 x  t4" not in torchplace("topo", "-", "--gpu", "rtx-2080-ti").stdout
    monkeypatch.setattr(sys, "stdin", io.StringIO("nonsense"))
    assert_one_message(torchplace("topo", "-"), "standard input", "GPU0")


@pytest.mark.usefixtures("matrix")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["big-sir"], ["big-sir", "big-sur"]),
        (["big-sur", "--gpu", "t4"], ["--gpu", ".txt", "big-sur"]),
        (["big-sur", "--dot", "--json"], ["--dot", "--json"]),
        (["big-sur", "--export", "box.toml"], ["box.toml", ".yaml"]),
        (["matrix.txt", "--gpu", "t5"], ["no GPU model 't5'", "t4"]),
        (["matrix.txt", "--gpu", "t4"], ["NV2", "t4", "no NVLinks"]),
        (["matrix.txt", "--pcie", "gen4"], ["gen4", "4x8"]),
        (["matrix.txt", "--gpu", "a30", "--cpu", "pentium"], ["pentium", "epyc"]),
        (["broken.txt"], ["broken.txt: line 2", "FAST"]),
        (["missing.txt"], ["missing.txt", "cannot be read"]),
    ],
)
def test_mistakes(torchplace: Run, arguments: list[str], words: list[str]) -> None:
    assert_one_message(torchplace("topo", *arguments), *words)


def test_devices_are_measured(
    folder: Path, torchplace: Run, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path_factory.mktemp("cache")))
    write_figures(pair_threads(), CpuFigures(calibrated=True))  # to calibrate takes a minute: tests/runtime do that
    done = torchplace("topo", "local:2", "--measure", "--out", "measured.yaml")
    assert done.returncode == 0, done.stderr
    measured = Topology.load(folder / "measured.yaml")
    assert measured.device_names == ("cpu:0", "cpu:1")
    assert measured.route("cpu:0", "cpu:1").time(2**20) > 0
    assert "2 x  cpu" in torchplace("topo", "measured.yaml").stdout


def test_devices_that_are_not_here_are_not_measured(torchplace: Run) -> None:
    assert_one_message(torchplace("topo", "big-sur", "--measure"), "big-sur", "gpu:0", "not on this machine")


def test_a_name_that_cannot_be_written_to_is_refused_before_anything_is_measured(torchplace: Run) -> None:
    assert_one_message(torchplace("topo", "--measure", "--out", "measured.txt"), "measured.txt", ".yaml")


def test_a_machine_without_nvidias_driver_says_so(torchplace: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert_one_message(torchplace("topo", "nvml"), "nvidia-ml-py")
