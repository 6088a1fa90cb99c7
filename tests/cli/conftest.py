"""A folder with models, good and bad, and the command to call there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.typed import Run
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
