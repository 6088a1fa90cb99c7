from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from typer.testing import CliRunner

from tests.placement.maxload.instances import chain, instances, optimum, write
from torchplace.cli import app
from torchplace.errors import InfeasibleError, InstanceError
from torchplace.placement.maxload.anneal import anneal
from torchplace.placement.maxload.exact import search
from torchplace.placement.maxload.instance import Instance, Node
from torchplace.placement.maxload.published import files, known, solve_file
from torchplace.placement.maxload.solve import solve
from torchplace.placement.maxload.state import State


@settings(max_examples=25)
@given(instances(most=5))
def test_small_problems_are_solved_to_the_optimum(instance: Instance) -> None:
    for contiguous in (False, True):
        best = optimum(instance, contiguous=contiguous)
        if best == float("inf"):
            with pytest.raises(InfeasibleError, match="bytes"):
                solve(instance.problem, contiguous=contiguous, seconds=0.3)
            continue
        answer = solve(instance.problem, contiguous=contiguous, seconds=0.5)
        assert answer.lower_bound <= optimum(instance) * (1 + 1e-6)
        assert answer.max_load >= best * (1 - 1e-9)
        if not contiguous:
            assert answer.max_load == pytest.approx(best)


@settings(max_examples=40)
@given(instances(most=5))
def test_the_exact_model_finds_the_optimum_and_proves_it(instance: Instance) -> None:
    problem, best = instance.problem, optimum(instance)
    limit = float(np.where(np.isfinite(problem.time), problem.time, 0.0).sum() + problem.give.sum() + 9.0)
    found = search(problem, np.zeros(problem.count, dtype=np.int64), range(problem.count), seconds=10.0, below=limit)
    assert found.proved
    if best == float("inf"):
        assert found.placed is None
    else:
        assert found.placed is not None
        assert problem.max_load(found.placed) == pytest.approx(best, rel=1e-5, abs=1e-5)
        assert found.bound <= best * (1 + 1e-6) + 1e-6


def test_devices_that_are_filled_to_the_brim_are_not_ruled_out() -> None:
    """Three items of 2 bytes fit one device of 6, though a third of it is no whole number of steps."""
    nodes = [Node(id=i, cpuLatency=9, fpgaLatency=time, size=2.0) for i, time in enumerate((1, 1, 1, 3))]
    problem = Instance("brim", nodes, [], 2, 0, 6.0).problem
    found = search(problem, np.array([0, 1, 0, 1]), range(4), seconds=10.0, below=50.0)
    assert found.placed is not None
    assert problem.max_load(found.placed) == pytest.approx(3.0)
    assert found.bound <= 3.0 * (1 + 1e-6)


@given(instances())
def test_loads_are_kept_up_to_date_move_by_move(instance: Instance) -> None:
    problem = instance.problem
    state = State(problem, np.zeros(problem.count, dtype=np.int64))
    for item in range(problem.count):
        for to in range(len(problem.devices)):
            if to != state.placed[item] and np.isfinite(problem.time[problem.kind_of[to], item]):
                if not np.isfinite(state.loads).all():
                    return
                state.move(item, to, state.changes(item, to))
                assert state.loads == pytest.approx(problem.loads(state.array).tolist())
                assert state.held == pytest.approx(problem.held(state.array).tolist())


def test_annealing_never_makes_it_worse_and_repeats_itself_for_a_seed(tmp_path: Path) -> None:
    problem = Instance.load(write(tmp_path / "c.json", chain(12, cost=0.1))).problem
    start = np.array([0, 1] * 6)
    found, again = (anneal(problem, start, seconds=60.0, seed=3) for _ in range(2))
    assert found.tolist() == again.tolist()
    assert problem.max_load(found) < problem.max_load(start)
    best = np.array([0] * 6 + [1] * 6)
    assert problem.max_load(anneal(problem, best, seconds=60.0)) == problem.max_load(best)


def test_a_directory_is_benchmarked_beside_what_is_known(tmp_path: Path) -> None:
    write(tmp_path / "four.json", chain(4, cost=0.5))
    write(tmp_path / "five.json", chain(5, cost=0.5, accelerators=3))
    write(tmp_path / "results.json", {"four": {"methods": {"ideal-dp": {"max_load": 4.5}, "slow": {"max_load": None}}}})
    assert [path.stem for path in files(tmp_path)] == ["five", "four"]
    assert known(tmp_path) == {"four": {"ideal-dp": 4.5}}
    done = CliRunner().invoke(app, ["bench", "placement", str(tmp_path), "--time-limit", "1", "--json"])
    assert done.exit_code == 0, done.output
    five, four = json.loads(done.stdout)
    assert (four["instance"], four["max_load"], four["contiguous"]) == ("four", 4.5, True)
    assert four["lower_bound"] == pytest.approx(4.5, rel=1e-2)
    assert set(four["split"]) == set("0123")
    assert five["max_load"] == pytest.approx(4.5)
    assert min(five["seconds"], five["peak_mib"]) > 0
    table = CliRunner().invoke(app, ["bench", "placement", str(tmp_path / "four.json"), "--time-limit", "1"])
    assert "ours over ideal-dp, geometric mean of 1: 1.000" in table.stdout


def test_there_must_be_an_instance(tmp_path: Path) -> None:
    with pytest.raises(InstanceError, match=r"no instance in .*expected a directory with \*\.json files"):
        files(tmp_path)
    write(tmp_path / "results.json", {"four": 4})
    with pytest.raises(InstanceError, match=r"known results .*results\.json"):
        known(tmp_path)


def test_contiguous_answers_are(tmp_path: Path) -> None:
    result = solve_file(write(tmp_path / "c.json", chain(7, cost=0.1, accelerators=3)), contiguous=True, seconds=0.5)
    assert result.contiguous
    assert result.max_load == pytest.approx(6.1)
