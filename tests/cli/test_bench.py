"""`torchplace bench placement` as a user types it: what was solved is never lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.typed import Run
from tests.placement.maxload.instances import chain, write
from torchplace.placement.maxload import published
from torchplace.placement.maxload.problem import LoadProblem
from torchplace.placement.maxload.solve import Answer, solve

LIMIT = ["--time-limit", "1"]


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    """Five files, of which the second is no text and the third does not fit."""
    for name in ("a", "d", "e"):
        write(tmp_path / f"{name}.json", chain(4, cost=0.5))
    (tmp_path / "b.json").write_bytes(b"\xff{")
    write(tmp_path / "c.json", chain(4) | {"maxSizePerFPGA": 0.5})
    return tmp_path


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has enough when `d` is being solved."""

    def until(problem: LoadProblem, **options: Any) -> Answer:
        if problem.name == "d":
            raise KeyboardInterrupt
        return solve(problem, **options)

    monkeypatch.setattr(published, "solve", until)


def names(found: str) -> list[str]:
    return [entry["instance"] for entry in json.loads(found)]


def test_what_cannot_be_solved_is_named_and_holds_up_nothing(torchplace: Run, instances: Path) -> None:
    done = torchplace("bench", "placement", str(instances), *LIMIT, "--json")
    assert done.returncode == 1
    assert names(done.stdout) == ["a", "d", "e"]
    unreadable, too_large = done.stderr.strip().splitlines()
    assert unreadable.startswith("error: b.json: ")
    assert too_large.startswith("error: c.json: no placement")


@pytest.mark.usefixtures("interrupted")
def test_an_interrupt_loses_nothing(torchplace: Run, instances: Path) -> None:
    done = torchplace("bench", "placement", str(instances), *LIMIT, "--json")
    assert done.returncode == 130
    assert names(done.stdout) == ["a"]
    assert "stopped while solving d.json; 3 of 5 instances were done" in done.stderr
    assert "b.json" in done.stderr
    table = torchplace("bench", "placement", str(instances), *LIMIT)
    assert table.returncode == 130
    assert "│ a " in table.stdout
    assert "gap, geometric mean" in table.stdout


def test_where_nothing_is_solved_only_errors_are_printed(torchplace: Run, instances: Path) -> None:
    done = torchplace("bench", "placement", str(instances / "c.json"), *LIMIT)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "c.json" in done.stderr
    assert json.loads(torchplace("bench", "placement", str(instances / "c.json"), *LIMIT, "--json").stdout) == []
