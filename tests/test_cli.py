"""The command line, as a user types it: tables, JSON, and one clear message for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from torchplace import cli

MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)), (torch.ones(4, 8),)

def other():
    return nn.Linear(8, 8), (torch.ones(4, 8),)

def broken():
    raise ValueError("no such data")

def three():
    return 3

def huge():
    with torch.device("meta"):
        layers = [nn.Linear(2**15, 2**15) for _ in range(32)]
    return nn.Sequential(*layers), (torch.empty(1, 2**15, device="meta"),)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cli")
    (where / "model.py").write_text(MODEL)
    (where / "bad.yaml").write_text("name: x\ndevices: 3\n")
    (where / "syntax.py").write_text("def build(:\n")
    return where


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def torchplace(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, called in this process (starting one takes seconds)."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["torchplace", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out, err)

    return run


def test_the_command_ends_with_its_status_and_no_traceback(folder: Path) -> None:
    command = [sys.executable, "-m", "torchplace", "topo", "big-sir"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert_one_message(result, "big-sur")


def test_plan_save_and_run(folder: Path, torchplace: Run) -> None:
    made = torchplace(
        "plan",
        "model.py:build",
        "--topology",
        "local:2",
        "--training",
        "--solver",
        "round-robin",
        "--save",
        "plan.json",
    )
    assert made.returncode == 0, made.stderr
    assert "cpu:1" in made.stdout
    ran = torchplace("run", "model.py:build", "--plan", "plan.json", "--training", "--steps", "1", "--json")
    assert ran.returncode == 0, ran.stderr
    measured = json.loads(ran.stdout)["measured"]
    assert measured["output_difference"] < 1e-5
    assert measured["gradient_difference"] < 1e-5
    refused = torchplace("run", "model.py:other", "--plan", "plan.json", "--training")
    assert_one_message(refused, "another graph")
    edited = (folder / "plan.json").read_text().replace('"seed": 0', '"seed": 7')
    (folder / "edited.json").write_text(edited)
    assert_one_message(torchplace("run", "model.py:build", "--plan", "edited.json"), "changed after")


def test_compare_and_topo_as_json(torchplace: Run) -> None:
    compared = torchplace("compare", "model.py:build", "--topology", "big-sur", "--json")
    rows = json.loads(compared.stdout)
    assert {"single", "balanced", "heft", "random"} <= {row["solver"] for row in rows}
    drawn = torchplace("topo", "big-sur", "--json")
    assert len(json.loads(drawn.stdout)["devices"]) == 8


def assert_one_message(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr + result.stdout
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "model.py:build", "--topology", "bad.yaml"], ["bad.yaml", "devices"]),
        (["plan", "model.py:build", "--topology", "missing.yaml"], ["missing.yaml"]),
        (["plan", "model.py:build", "--solver", "magic"], ["magic", "heft", "balanced"]),
        (["plan", "model.py:nothing"], ["nothing"]),
        (["plan", "nowhere.py:build"], ["nowhere.py"]),
        (["plan", "no.such.module:build"], ["no.such.module"]),
        (["plan", "syntax.py:build"], ["syntax.py"]),
        (["plan", "model.py"], ["model.py", "callable"]),
        (["plan", "model.py:broken"], ["no such data"]),
        (["plan", "model.py:three"], ["(model, args)"]),
        (["plan", "model.py:huge", "--topology", "big-sur"], ["gpu:0", "GiB"]),
        (["run", "model.py:build", "--topology", "big-sur"], ["rehearse"]),
        (["run", "model.py:build", "--devices", "2", "--topology", "big-sur"], ["--devices"]),
        (["plan", "model.py:build", "--pins", "nonsense"], ["PATTERN=DEVICE"]),
        (["topo", "big-sir"], ["big-sur"]),
    ],
)
def test_mistakes(torchplace: Run, arguments: list[str], words: list[str]) -> None:
    assert_one_message(torchplace(*arguments), *words)
