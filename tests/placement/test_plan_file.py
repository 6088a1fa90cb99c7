from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import chain
from tests.placement.plans import captured, plan_of
from torchplace.errors import PlanError
from torchplace.placement.plan import Plan
from torchplace.placement.plan_file import _digest

KEPT = [f.name for f in dataclasses.fields(Plan) if f.name not in ("programs", "timeline", "rest")]


def same(one: Plan, other: Plan) -> None:
    for name in KEPT:
        assert getattr(one, name) == getattr(other, name), name
    assert len(one.rest) == len(other.rest)
    for mine, theirs in zip(one.rest, other.rest, strict=True):
        same(mine, theirs)


def test_round_trip(tmp_path: Path) -> None:
    rest = plan_of({"v0": "d0", "v1": "d2"}, chain(2))
    told = {"holds": ("x[0] of 2 or more",), "found": ("models/net.py:7 finds True",), "split": {"a": ["d0", "d1"]}}
    plan = dataclasses.replace(plan_of(), rest=(rest,), name='a "name" — %', **told)
    plan.save(tmp_path / "plan.json")
    again = Plan.load(str(tmp_path / "plan.json"))
    same(again, plan)
    assert (again.programs, again.timeline) == ((), None)
    assert again.placement_for(captured()) == plan.placement
    assert str(again) == str(plan)
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "plan.json").read_bytes()


@given(st.floats(0, allow_infinity=False, allow_nan=False), st.integers(-(1 << 62), 1 << 62), st.text(max_size=5))
def test_numbers_and_names_come_back_exactly(seconds: float, seed: int, name: str) -> None:
    import tempfile

    plan = dataclasses.replace(plan_of({"v0": "d0"}, chain(1)), solve_time=seconds, seed=seed, name=name)
    with tempfile.TemporaryDirectory() as folder:
        plan.save(f"{folder}/plan.json")
        same(Plan.load(f"{folder}/plan.json"), plan)


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    plan_of().save(tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text())
    assert (data["format"], data["version"]) == ("torchplace plan", 1)
    assert data["placement"]["layer1"] == "d1"
    assert data["topology"]["name"] == "machine"
    assert {k: v for k, v in data.items() if k != "digest"} == plan_of_data(plan_of(), data)


def plan_of_data(plan: Plan, like: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(plan.to_dict()))
    assert data.keys() == like.keys() - {"digest"}
    return data


def test_an_older_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("old")
    plan_of().save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").name == "toy"
    assert os.listdir(tmp_path) == ["plan.json"]


def sealed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    """A change to the content by somebody who mends the digest too."""

    def apply(text: str) -> str:
        data = json.loads(text)
        del data["digest"]
        change(data)
        return json.dumps({**data, "digest": _digest(data)})

    return apply


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    """A change to the content by hand."""

    def apply(text: str) -> str:
        data = json.loads(text)
        change(data)
        return json.dumps(data)

    return apply


def put(*path: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(data: dict[str, Any]) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = value

    return change


def test_a_file_from_before_bounds_had_names_is_read(tmp_path: Path) -> None:
    plan = plan_of()
    plan.save(tmp_path / "plan.json")
    (tmp_path / "old.json").write_text(sealed(lambda data: data.pop("bound"))((tmp_path / "plan.json").read_text()))
    same(Plan.load(tmp_path / "old.json"), dataclasses.replace(plan, bound=""))


NOWHERE = "it uses device 'd9', which its topology"
CORRUPTIONS: dict[str, tuple[Callable[[str], str], str]] = {
    "moved an op": (edited(put("placement", "layer1", value="d2")), "was changed after it was saved"),
    "edited the digest": (edited(put("digest", value="0" * 16)), "was changed after it was saved"),
    "removed the digest": (edited(lambda d: d.pop("digest")), "was changed after it was saved"),
    "digest of another type": (edited(put("digest", value=[1])), "was changed after it was saved"),
    "cut off": (lambda text: text[: len(text) // 2], "is no plan file: it is not JSON"),
    "empty": (lambda text: "", "is no plan file: it is not JSON"),
    "not text": (lambda text: "\udcff\udcfe", "is no plan file: it is not JSON"),
    "nested too deep": (lambda text: "[" * 100_000, "is no plan file: it is not JSON"),
    "a list": (lambda text: "[1, 2]", "is no plan file; expected the JSON that Plan.save writes"),
    "a string": (lambda text: '"plan"', "is no plan file; expected the JSON that Plan.save writes"),
    "another format": (edited(put("format", value="onnx")), "is no plan file; expected the JSON that Plan.save writes"),
    "another version": (sealed(put("version", value=2)), "field 'version'"),
    "a number for a name": (sealed(put("name", value=3)), "field 'name'"),
    "text for a number": (sealed(put("lower_bound", value="fast")), "field 'lower_bound'"),
    "a negative time": (sealed(put("solve_time", value=-1.0)), "field 'solve_time'"),
    "a number for a device": (sealed(put("placement", "layer1", value=1)), "field 'placement.layer1'"),
    "memory that does not add up": (
        sealed(put("predicted", "memory", "d0", "temporaries", value=7)),
        "its memory of device 'd0', {",
    ),
    "negative memory": (
        sealed(lambda d: d["predicted"]["memory"]["d1"].update(parameters=-16, temporaries=48 + 32)),
        "its memory of device 'd1', {",
    ),
    "memory nowhere": (sealed(put("predicted", "memory", "d9", value={})), "its memory of device 'd9', {},"),
    "a field too many": (sealed(put("colour", value="red")), "field 'colour'"),
    "a field too few": (sealed(lambda d: d.pop("placement")), "field 'placement'"),
    "wrong inside": (sealed(put("predicted", "busy", value=[])), "field 'predicted.busy'"),
    "an unknown device": (sealed(put("placement", "layer1", value="d9")), f"{NOWHERE} 'machine' does not have"),
    "a parameter nowhere": (sealed(put("parameters", "w1", value="d9")), f"{NOWHERE} 'machine' does not have"),
    "an op without a key": (sealed(lambda d: d["keys"].pop("layer1")), "its keys are not those of its ops"),
    "two ops of one key": (sealed(lambda d: d["keys"].update(layer1=d["keys"]["layer0"])), "its keys are not"),
    "a broken topology": (sealed(put("topology", "devices", value=[])), "its topology: "),
    "a topology of another type": (sealed(put("topology", value=[])), "field 'topology'"),
    "a broken other graph": (sealed(lambda d: d["rest"][0].update(seed="x")), "field 'rest.0.seed'"),
    "another graph nowhere": (sealed(lambda d: d["rest"][0]["placement"].update(v0="d9")), NOWHERE),
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_a_damaged_file_is_one_clear_error(what: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    dataclasses.replace(plan_of(), rest=(plan_of({"v0": "d0"}, chain(1)),)).save(path)
    damage, message = CORRUPTIONS[what]
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(PlanError) as caught:
        Plan.load(path)
    assert message in str(caught.value)
    assert repr(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read the plan file '.*nothing.json': No such file or directory"):
        Plan.load(tmp_path / "nothing.json")
    with pytest.raises(PlanError, match="cannot read the plan file '.*': Is a directory"):
        Plan.load(tmp_path)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    plan = plan_of()
    with pytest.raises(PlanError, match="cannot write the plan to '.*/nowhere/plan.json': No such file or directory"):
        plan.save(tmp_path / "nowhere" / "plan.json")
    (tmp_path / "taken").mkdir()
    with pytest.raises(PlanError, match="cannot write the plan to '.*/taken': Is a directory"):
        plan.save(tmp_path / "taken")
    assert os.listdir(tmp_path) == ["taken"], "no partial file"


def test_a_full_disk_leaves_the_old_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    plan_of().save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PlanError, match="cannot write the plan to '.*/plan.json': No space left on device"):
        plan_of({"v0": "d0"}, chain(1)).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["plan.json"]
