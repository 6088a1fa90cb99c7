from __future__ import annotations

import pytest
from hypothesis import given

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import machine, problem, problems
from torchplace.errors import InfeasibleError
from torchplace.placement.problem import Problem

THREE = machine([2**20] * 3)


def test_what_is_forbidden_to_one_is_so_to_its_group() -> None:
    made = problem(chain(4), THREE, together=[["v0", "v2"]], forbid={"v0": ["d0"], "v[13]": ["d1"]})
    assert made.forbidden == {
        "v0": {"d0"}, "v2": {"d0"}, "v1": {"d1"}, "v3": {"d1"},
    }  # fmt: skip
    assert [made.allows("v2", device) for device in made.devices] == [False, True, True]
    assert all(problem(chain(1), THREE).allows("v0", device) for device in made.devices)


def test_a_group_that_is_left_one_device_is_fixed_there() -> None:
    made = problem(chain(3), THREE, together=[["v0", "v2"]], forbid={"v0": ["d0"], "v2": ["d2"]})
    assert made.pins == {"v0": "d1", "v2": "d1"}


def test_a_group_that_is_left_no_device() -> None:
    with pytest.raises(
        InfeasibleError,
        match=r"^no device is left for op 'v1' and 1 with it, which stay together by together \['v1', 'v2'\]: "
        r"forbid 'v1': 'd0', 'd1' and forbid 'v2': 'd2'; allow one of them",
    ):
        problem(chain(3), THREE, together=[["v1", "v2"]], forbid={"v1": ["d0", "d1"], "v2": ["d2"], "v0": ["d1"]})


def test_the_place_in_the_code_is_named() -> None:
    b = Builder()
    b.returns(b.add_op(b.input("x", 4), name="v0", source="model.py:3"))
    with pytest.raises(
        InfeasibleError, match=r"no device is left for op 'v0' \(model.py:3\): forbid 'v0': 'd0'; allow"
    ):
        problem(b.graph, machine([9]), forbid={"v0": ["d0"]})


@given(problems())
def test_forbidden_is_the_union_over_a_group_of_what_hints_say(made: Problem) -> None:
    for group in made.groups:
        said = {d for hint in made.hints if hint.kind == "forbid" and {*hint.ops} & {*group} for d in hint.devices}
        for op in group:
            assert {device for device in made.devices if not made.allows(op, device)} == said
        if len(said) == len(made.devices) - 1 and said:
            assert made.pins[group[0]] not in said
