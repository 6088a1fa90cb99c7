from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, Table, machine, problem, problems
from torchplace.placement.check import check
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.keep_off import keep_off

W = 4 * FLOAT
"""Bytes of each parameter of `chain`."""


def moved(made: Problem, placement: Mapping[str, str]) -> dict[str, str]:
    return keep_off(made, placement, made.capacity)


def test_where_nothing_is_forbidden_nothing_moves() -> None:
    made = problem(chain(3), machine([2**20] * 2))
    assert moved(made, {"v0": "d0", "v1": "d1", "v2": "d0"}) == {"v0": "d0", "v1": "d1", "v2": "d0"}


def test_a_neighbours_device_is_taken() -> None:
    made = problem(chain(4), machine([2**20] * 4), forbid={"v2": ["d0"]})
    assert moved(made, {"v0": "d1", "v1": "d2", "v2": "d0", "v3": "d2"})["v2"] == "d2"
    assert moved(made, {"v0": "d0", "v1": "d0", "v2": "d0", "v3": "d3"})["v2"] == "d3", "d0 is nearer, but forbidden"


def test_the_neighbour_that_exchanges_the_most_bytes() -> None:
    b = Builder()
    small, large = b.add_op(b.input("x", 4), name="small"), b.add_op(b.input("y", 9), name="large", shape=(9,))
    b.returns(b.add_op(small, large, name="both"))
    made = problem(b.graph, machine([2**20] * 3), forbid={"both": ["d0"]})
    assert moved(made, {"small": "d1", "large": "d2", "both": "d0"})["both"] == "d2"


def test_of_devices_that_are_as_near_the_soonest() -> None:
    made = problem(chain(1), machine([2**20] * 4, [1.0, 3.0, 2.0, 2.0]), cost=Table(), forbid={"v0": ["d0"]})
    assert moved(made, {"v0": "d0"}) == {"v0": "d2"}


def test_what_was_on_one_device_moves_as_one() -> None:
    made = problem(chain(5), machine([2**20] * 3), forbid={"v[0-3]": ["d0"]})
    placement = moved(made, {**dict.fromkeys(made.ops, "d0"), "v4": "d2"})
    assert placement == dict.fromkeys(made.ops, "d2")


def test_and_in_parts_where_no_device_has_room_for_all() -> None:
    made = problem(chain(4), machine([9 * W, 3 * W, 2 * W]), forbid={"*": ["d0"]})
    placement = moved(made, dict.fromkeys(made.ops, "d0"))
    assert check(made, placement) == []


def test_other_devices_that_are_forbidden_do_not_matter() -> None:
    made = problem(chain(2), machine([2**20] * 3), forbid={"v0": ["d2"], "v1": ["d0"]})
    assert moved(made, {"v0": "d0", "v1": "d1"}) == {"v0": "d0", "v1": "d1"}


def test_where_nothing_has_room_the_roomiest_is_overfilled() -> None:
    made = problem(chain(1), machine([9 * W, 1, 2]), forbid={"v0": ["d0"]})
    assert moved(made, {"v0": "d0"}) == {"v0": "d2"}
    assert not made.fits({"v0": "d2"})


@given(problems(), st.data())
def test_any_placement_of_groups_keeps_to_hints_afterwards(made: Problem, data: st.DataObject) -> None:
    free = {group: data.draw(st.sampled_from(made.devices)) for group in made.groups if group[0] not in made.pins}
    given_ = {**made.pins, **{op: device for group, device in free.items() for op in group}}
    placement = moved(made, given_)
    faults = [fault for fault in check(made, placement) if not fault.startswith("device ")]
    assert faults == [], "but for memory"
    assert all(placement[op] == given_[op] for op in made.ops if made.allows(op, given_[op])), "nothing else moves"
    assert moved(made, placement) == placement
