"""Training steps side by side: all contestants do the same work, and what cannot says why."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks._pipeline_eager import Eager
from benchmarks._pipeline_peer import Stage, cut
from benchmarks._pipeline_problems import CASES, Case
from benchmarks._pipeline_result import ALONE, EAGER, LIMIT, PEER, PLACED, RANKS, Result
from benchmarks._pipeline_team import KEPT_MEMORY, Checked, Team, TeamError
from benchmarks._pipeline_text import lines
from benchmarks.pipeline import agree, contest
from torchplace.placement.topology.figures import CpuFigures, write_figures
from torchplace.runtime import allocator

TINY = {
    "gpt": Case("tiny", "gpt", 4, sizes={"width": 32, "layers": 4, "length": 16}),
    "unet": Case("tiny", "unet", 4, sizes={"width": 4, "levels": 2, "pixels": 16}),
}


@pytest.mark.slow
def test_all_contestants_do_the_same_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))
    write_figures(1, CpuFigures(calibrated=True))  # to calibrate takes a minute: tests/runtime do that
    result = contest(TINY["gpt"], rounds=1, schedules=["ZBV"], cost="roofline")
    assert result.cannot == {}
    assert list(result.times) == [EAGER, f"{PEER}ZBV", PLACED, RANKS, LIMIT, ALONE]
    found = json.loads(json.dumps(result.data()))
    placed = found["contestants"][PLACED]
    assert placed["predicted"] > 0
    assert math.isclose(placed["error"], placed["predicted"] / placed["seconds"] - 1)
    assert set(placed["parameter_bytes"]) == set(placed["ops"]) == {"cpu:0", "cpu:1"}
    text = "\n".join(lines(result))
    assert "of its schedules" in text
    assert "predicted peak bytes cpu:0" in text


@pytest.mark.parametrize("family", TINY)
def test_a_chain_of_layers_does_what_the_model_does(family: str) -> None:
    problem = TINY[family].build()
    output = Stage(problem.layers)(*problem.args)
    torch.testing.assert_close(output, problem.model(*problem.args))


def test_microbatches_make_the_loss_of_the_batch() -> None:
    problem = TINY["gpt"].build()
    [whole] = problem.microbatches(1)
    parts = [make().item() for make in problem.microbatches(4)]
    assert math.isclose(sum(parts) / 4, whole().item(), rel_tol=1e-5)


def test_what_has_no_chain_says_why() -> None:
    with torch.device("meta"):
        problems = {name: case.build() for name, case in CASES.items()}
    assert all(bool(problem.layers) != bool(problem.unchained) for problem in problems.values())


def test_a_cut_makes_the_slowest_part_as_fast_as_can_be() -> None:
    assert cut([1.0, 1.0, 1.0, 5.0, 1.0], 2) == [0, 3, 5]
    assert cut([2.0, 1.0, 1.0, 2.0], 4) == [0, 1, 2, 3, 4]


def test_a_team_fails_with_the_reason_of_one_of_it() -> None:
    with pytest.raises(TeamError, match="KeyError: 'nothing'"):
        Team(Eager, Case("broken", "nothing"), size=2)


def test_other_work_is_refused() -> None:
    agree(Checked(1.00001, 4.0), Checked(1.0, 4.0))
    agree(Checked(1.0, 2.0), Checked(1.0, 4.0), whole=False)
    with pytest.raises(TeamError, match="its loss is 1.1, that of eager 1"):
        agree(Checked(1.1, 4.0), Checked(1.0, 4.0))
    with pytest.raises(TeamError, match="its norm of gradients is 3, that of eager 2"):
        agree(Checked(1.0, 9.0), Checked(1.0, 4.0))


def test_a_result_is_of_medians_and_says_how_eager_drifted() -> None:
    times = {EAGER: [4.0, 4.0, 5.0, 5.0], LIMIT: [2.0, 2.0, 2.5, 2.5], f"{PEER}A": [3.0] * 4, f"{PEER}B": [2.8] * 4}
    result = Result("toy", 4, 1, True, times, {}, {name: {} for name in times})
    assert result.best_peer == f"{PEER}B"
    assert result.drift == pytest.approx(0.25)
    assert result.to_eager(LIMIT) == pytest.approx(0.5)
    assert result.share_of_limit(EAGER) == pytest.approx(0.5)


def test_processes_get_the_allocator_settings_that_torchplace_makes() -> None:
    expected = {"MMAP_THRESHOLD": allocator._ALL, "TRIM_THRESHOLD": allocator._ALL, "TOP_PAD": allocator._PAD}
    assert {f"MALLOC_{name}_": str(value) for name, value in expected.items()} == KEPT_MEMORY
