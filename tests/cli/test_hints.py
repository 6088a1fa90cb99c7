"""Hints on the command line, of every command that plans."""

from __future__ import annotations

import json

from tests.cli.typed import Run
from torchplace.cli.hints import hints


def test_what_they_stand_for() -> None:
    assert hints(["h.1=gpu:1", "*=*=gpu:0"], ["wte, head", "h.3"], ["h.2=gpu:0", "h.*=gpu:1,gpu:2", "h.2=gpu:3"]) == {
        "pins": {"h.1": "gpu:1", "*=*": "gpu:0"},
        "together": [["wte", "head"], ["h.3"]],
        "forbid": {"h.2": ["gpu:0", "gpu:3"], "h.*": ["gpu:1", "gpu:2"]},
    }
    assert hints(None, None, None) == {"pins": {}, "together": [], "forbid": {}}


GIVEN = ["--pins", "0=gpu:3", "--together", "1,2", "--forbid", "1=gpu:0,gpu:1,gpu:2", "--forbid", "2=gpu:3"]


def test_plan_keeps_to_them(torchplace: Run) -> None:
    plan = json.loads(torchplace("plan", "model.py:build", "--topology", "big-sur", *GIVEN, "--json").stdout)
    assert {d for d, parts in plan["parameters"].items()} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    where = plan["parameters"]
    assert where["0.weight"] == where["0.bias"] == "gpu:3"
    assert where["2.weight"] == where["2.bias"] in {f"gpu:{i}" for i in range(4, 8)}


def test_compare_keeps_to_them(torchplace: Run) -> None:
    common = ["compare", "model.py:build", "--topology", "big-sur", "--solvers", "single,balanced", "--json"]
    for row in json.loads(torchplace(*common, *GIVEN).stdout):
        used = row["devices_used"]
        assert "gpu:3" in used, row["solver"]
        assert set(used) - {"gpu:3"} <= {f"gpu:{i}" for i in range(4, 8)}, row["solver"]


def test_run_keeps_to_them(torchplace: Run) -> None:
    common = ["run", "model.py:build", "--devices", "2", "--solver", "single", "--steps", "1", "--json"]
    [plan] = json.loads(torchplace(*common, "--forbid", "0=cpu:0", "--pins", "2=cpu:0").stdout)["plans"]
    assert {name.split(".")[0]: device for name, device in plan["parameters"].items()} == {"0": "cpu:1", "2": "cpu:0"}
