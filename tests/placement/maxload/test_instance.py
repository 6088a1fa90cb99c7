from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.placement.maxload.instances import chain, instances, write
from torchplace.errors import InstanceError
from torchplace.placement.maxload.check import faults, max_load
from torchplace.placement.maxload.instance import Instance


def test_a_file_is_read(tmp_path: Path) -> None:
    found = Instance.load(write(tmp_path / "three.json", chain(3, cost=0.5)))
    problem = found.problem
    assert (found.name, problem.count, problem.devices) == ("three", 3, ("fpga0", "fpga1"))
    assert problem.loads(np.array([0, 0, 1])).tolist() == [4.5, 2.5]
    assert found.split(np.array([0, 0, 1])) == {"0": "fpga0", "1": "fpga0", "2": "fpga1"}


@given(instances(), st.data())
def test_loads_are_what_the_checker_says(instance: Instance, data: st.DataObject) -> None:
    problem = instance.problem
    placed = np.array([data.draw(st.integers(0, len(problem.devices) - 1)) for _ in range(problem.count)])
    split = instance.split(placed)
    if any(faults(instance, split)):
        assert problem.max_load(placed) == float("inf")
    else:
        assert problem.max_load(placed) == pytest.approx(max_load(instance, split))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"maxFPGAs": -1}, "maxFPGAs"),
        ({"maxFPGAs": 0}, "there must be a device"),
        ({"nodes": []}, "nodes"),
        ({"edges": [{"sourceId": 0, "destId": 7, "cost": 1}]}, "names node 7"),
        ({"edges": [{"sourceId": 0, "destId": 1, "cost": 1}, {"sourceId": 1, "destId": 0, "cost": 1}]}, "cycle"),
        ({"nodes": [{"id": 0, "cpuLatency": 1, "fpgaLatency": 1}] * 2, "edges": []}, "node 0 is there twice"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InstanceError, match=said):
        Instance.load(write(tmp_path / "bad.json", chain(2) | change))


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(InstanceError, match=r"cannot read instance .*none\.json"):
        Instance.load(tmp_path / "none.json")
    for content in (b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "text.json").write_bytes(content)
        with pytest.raises(InstanceError, match="is not JSON"):
            Instance.load(tmp_path / "text.json")
