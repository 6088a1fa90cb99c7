"""`torchplace run` as a user types it: a saved plan is run, another one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.typed import Run, assert_one_message


def test_plan_save_and_run(folder: Path, torchplace: Run) -> None:
    options = ["--topology", "local:2", "--training", "--solver", "round-robin"]
    made = torchplace("plan", "model.py:build", *options, "--save", "plan.json")
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


def test_predicted_beside_measured(torchplace: Run) -> None:
    options = ["--devices", "2", "--solver", "round-robin", "--cost", "roofline", "--steps", "2", "--predict"]
    printed = torchplace("run", "model.py:build", *options)
    assert printed.returncode == 0, printed.stderr
    for words in ("largest difference from eager", "predicted", "critical path", "by op family"):
        assert words in printed.stdout
    ran = torchplace("run", "model.py:build", *options, "--json")
    found = json.loads(ran.stdout)["validation"]
    assert found["step_time"]["predicted"] > 0
    assert len(found["steps"]) == 2
    assert "validation" not in json.loads(torchplace("run", "model.py:build", "--steps", "1", "--json").stdout)


def test_steps_are_run_by_the_plan_that_was_made_for_them(torchplace: Run) -> None:
    options = ["--topology", "local:2", "--training", "--microbatches", "2"]
    made = torchplace("plan", "model.py:build", *options, "--solver", "round-robin", "--save", "steps.json")
    assert made.returncode == 0, made.stderr
    ran = torchplace("run", "model.py:build", *options, "--plan", "steps.json", "--steps", "1", "--predict", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["plans"][0]["microbatches"] == 2
    assert found["measured"]["output_difference"] < 1e-5
    assert found["measured"]["gradient_difference"] < 1e-5
    assert found["validation"]["step_time"]["measured"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.py:build", "--topology", "big-sur"], ["rehearse"]),
        (["model.py:build", "--devices", "2", "--topology", "big-sur"], ["--devices"]),
        (["model.py:build", "--cost", "magic"], ["cost", "magic", "measured"]),
    ],
)
def test_mistakes(torchplace: Run, arguments: list[str], words: list[str]) -> None:
    assert_one_message(torchplace("run", *arguments), *words)
