"""The command line as a whole: how it is started, and one clear message for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.typed import Run, assert_one_message


def test_the_command_ends_with_its_status_and_no_traceback(folder: Path) -> None:
    command = [sys.executable, "-m", "torchplace", "topo", "big-sir"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert_one_message(result, "big-sur")


def test_help_lists_the_commands(torchplace: Run) -> None:
    listed = torchplace("--help")
    assert listed.returncode == 0
    for command in ("plan", "compare", "run", "topo"):
        assert command in listed.stdout
