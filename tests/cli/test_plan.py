"""`torchplace plan` as a user types it: what it saves, and one clear message for each mistake."""

from __future__ import annotations

import json

import pytest

from tests.cli.typed import Run, assert_one_message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.py:build", "--topology", "bad.yaml"], ["bad.yaml", "devices"]),
        (["model.py:build", "--topology", "missing.yaml"], ["missing.yaml"]),
        (["model.py:build", "--solver", "magic"], ["magic", "heft", "balanced"]),
        (["model.py:nothing"], ["nothing"]),
        (["nowhere.py:build"], ["nowhere.py"]),
        (["no.such.module:build"], ["no.such.module"]),
        (["syntax.py:build"], ["syntax.py"]),
        (["model.py"], ["model.py", "callable"]),
        (["model.py:broken"], ["no such data"]),
        (["model.py:three"], ["(model, args)"]),
        (["model.py:huge", "--topology", "big-sur"], ["gpu:0", "GiB"]),
        (["model.py:build", "--pins", "nonsense"], ["--pins 'nonsense'", "PATTERN=DEVICE"]),
        (["model.py:build", "--forbid", "0"], ["--forbid '0'", "PATTERN=DEVICE"]),
        (["model.py:build", "--forbid", "0=a,,b"], ["--forbid '0=a,,b'", "comma"]),
        (["model.py:build", "--together", "0,"], ["--together '0,'", "comma"]),
        (["model.py:build", "--topology", "local:2", "--together", "0,7"], ["together pattern '7'"]),
        (
            ["model.py:build", "--topology", "local:2", "--forbid", "0=cpu:0", "--forbid", "0=cpu:1"],
            ["forbid '0': 'cpu:0', 'cpu:1'", "no device is left"],
        ),
        (["model.py:build", "--optimizer", "adamm"], ["adamm", "adam"]),
    ],
)
def test_mistakes(torchplace: Run, arguments: list[str], words: list[str]) -> None:
    assert_one_message(torchplace("plan", *arguments), *words)


def test_the_state_of_an_optimizer_is_in_the_memory(torchplace: Run) -> None:
    common = ["model.py:build", "--topology", "big-sur", "--training", "--optimizer", "adam", "--json"]
    plan = json.loads(torchplace("plan", *common).stdout)
    assert plan["optimizer"] == "adam"
    state = sum(parts.get("optimizer", 0) for parts in plan["predicted"]["memory"].values())
    assert state == 2 * 4 * (8 * 16 + 16 + 16 * 8 + 8) + 4 * 4, "two tensors like each parameter, and a step counter"
    [row] = json.loads(torchplace("compare", *common, "--solvers", "single").stdout)
    assert sum(parts.get("optimizer", 0) for parts in row["predicted"]["memory"].values()) == state


def test_the_source_of_costs_is_asked_for(torchplace: Run) -> None:
    plan = json.loads(
        torchplace("plan", "model.py:build", "--topology", "local:2", "--cost", "roofline", "--json").stdout
    )
    assert plan["cost"] == "roofline"
    assert_one_message(torchplace("plan", "model.py:build", "--cost", "guess"), "guess", "roofline")
