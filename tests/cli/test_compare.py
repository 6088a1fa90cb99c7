"""`torchplace compare` as a user types it."""

from __future__ import annotations

import json

from tests.cli.typed import Run, assert_one_message


def test_as_json(torchplace: Run) -> None:
    compared = torchplace("compare", "model.py:build", "--topology", "big-sur", "--json")
    rows = json.loads(compared.stdout)
    assert {"single", "balanced", "heft", "random"} <= {row["solver"] for row in rows}


def test_over_topologies(torchplace: Run) -> None:
    topologies = ["--topologies", "big-sur-single-root,big-sur-dual-root"]
    compared = torchplace("compare", "model.py:build", *topologies, "--solvers", "single,heft", "--json")
    rows = json.loads(compared.stdout)
    assert [(row["topology"], row["solver"]) for row in rows] == [
        (topology, solver) for topology in ("big-sur-single-root", "big-sur-dual-root") for solver in ("single", "heft")
    ]
    assert all(row["fits"] and row["predicted"]["step_time"] > 0 for row in rows)
    both = torchplace("compare", "model.py:build", *topologies, "--topology", "big-sur")
    assert_one_message(both, "were both given")
