"""`torchplace compare` as a user types it: several models, a chart, and interrupts that lose nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.cli.typed import Run, assert_one_message
from torchplace.errors import SolverError
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.registry import GROUP

BOXES = ["big-sur-single-root", "big-sur-dual-root"]


class Interrupted:
    """A solver during which the user has enough; but not of the smallest problem."""

    name = "interrupted"
    raises: BaseException = KeyboardInterrupt()

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        if len(problem.ops) > 2:
            raise self.raises
        return dict.fromkeys(problem.ops, problem.devices[0])


class Broken(Interrupted):
    """A solver that breaks its promise."""

    name = "broken"
    raises = SolverError("solver 'broken' is broken")


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Interrupted]], None]:
    """Install a solver of another package."""

    def install(solver: type[Interrupted]) -> None:
        entries = [EntryPoint(solver.name, f"{__name__}:{solver.__name__}", GROUP)]
        monkeypatch.setattr(metadata, "entry_points", lambda group: [e for e in entries if e.group == group])

    return install


def test_as_json(torchplace: Run) -> None:
    compared = torchplace("compare", "model.py:build", "--topology", "big-sur", "--json")
    rows = json.loads(compared.stdout)
    assert {"single", "balanced", "heft", "random"} <= {row["solver"] for row in rows}
    assert {(row["model"], row["topology"], row["objective"]) for row in rows} == {
        ("model.py:build", "big-sur", "latency")
    }
    assert min(row["ratio"] for row in rows) == 1.0
    assert all(row["value"] == row["predicted"]["step_time"] for row in rows)


def test_over_topologies(torchplace: Run) -> None:
    topologies = ["--topologies", ",".join(BOXES)]
    compared = torchplace("compare", "model.py:build", *topologies, "--solvers", "single,heft", "--json")
    rows = json.loads(compared.stdout)
    assert [(row["topology"], row["solver"]) for row in rows] == [(t, s) for t in BOXES for s in ("single", "heft")]
    assert all(row["fits"] and row["predicted"]["step_time"] > 0 for row in rows)
    both = torchplace("compare", "model.py:build", *topologies, "--topology", "big-sur")
    assert_one_message(both, "were both given")


def test_several_models(torchplace: Run) -> None:
    targets, options = ["model.py:build", "model.py:other", "model.py:huge"], ["--topology", "big-sur"]
    rows = json.loads(torchplace("compare", *targets, *options, "--solvers", "single,heft", "--json").stdout)
    assert [(row["model"], row["solver"]) for row in rows] == [(m, s) for m in targets for s in ("single", "heft")]
    assert [row["fits"] for row in rows] == [True] * 4 + [False] * 2
    assert "gpu:0" in rows[-1]["reason"]
    table = torchplace("compare", *targets[:2], *options, "--solvers", "single", "--objective", "throughput").stdout
    for words in ("2 models on big-sur", "model.py:other (2 ops)", "period"):
        assert words in table


def test_a_chart(torchplace: Run, folder: Path) -> None:
    options = ["--topology", "big-sur", "--solvers", "single,heft"]
    done = torchplace("compare", "model.py:build", *options, "--plot", "out.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "heft" in done.stdout
    assert "model.py:build" in (folder / "out.html").read_text()


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_interrupt_loses_nothing(
    torchplace: Run, folder: Path, plug: Callable[[type[Interrupted]], None], as_json: list[str]
) -> None:
    plug(Interrupted)
    options = ["--topologies", ",".join(BOXES), "--solvers", "single,interrupted,heft", "--plot", "cut.html", *as_json]
    done = torchplace("compare", "model.py:other", "model.py:build", *options)
    assert done.returncode == 130
    assert "stopped while solving interrupted for model.py:build on big-sur-single-root; 7 of 12" in done.stderr
    assert "Traceback" not in done.stderr
    if as_json:
        came = [(row["model"], row["solver"]) for row in json.loads(done.stdout)]
        assert came == [("model.py:other", s) for s in ("single", "interrupted", "heft")] * 2 + [
            ("model.py:build", "single")
        ]
    else:
        assert done.stdout.count("│ interrupted") == 2
    assert "model.py:build" in (folder / "cut.html").read_text()


def test_an_interrupt_of_the_first_leaves_an_empty_list(
    torchplace: Run, folder: Path, plug: Callable[[type[Interrupted]], None]
) -> None:
    plug(Interrupted)
    options = ["--topology", "big-sur", "--solvers", "interrupted", "--plot", "none.html"]
    done = torchplace("compare", "model.py:build", *options, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (130, [])
    assert torchplace("compare", "model.py:build", *options).stdout == ""
    assert not (folder / "none.html").exists()


def test_an_error_loses_nothing_either(torchplace: Run, plug: Callable[[type[Interrupted]], None]) -> None:
    plug(Broken)
    options = ["--topology", "big-sur", "--solvers", "single,broken", "--json"]
    done = torchplace("compare", "model.py:build", *options)
    assert done.returncode == 1
    assert [row["solver"] for row in json.loads(done.stdout)] == ["single"]
    assert_one_message(done, "error: solver 'broken' is broken")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.py:build", "model.py:build"], ["model.py:build", "given twice"]),
        (["model.py:build", "model.py:nothing"], ["nothing"]),
        (["model.py:build", "--plot", "out.svg"], ["out.svg", ".html"]),
        (["model.py:build", "--plot", "no/such/out.html"], ["out.html", "folder"]),
        (["model.py:build", "--solvers", "magic"], ["magic", "heft"]),
    ],
)
def test_mistakes_are_told_before_anything_is_solved(torchplace: Run, arguments: list[str], words: list[str]) -> None:
    done = torchplace("compare", *arguments)
    assert done.stdout == ""
    assert_one_message(done, *words)


def test_a_chart_without_plotly(torchplace: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    done = torchplace("compare", "model.py:build", "--plot", "out.html")
    assert_one_message(done, "pip install torchplace[report]")
    assert done.stdout == ""
