from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, machine, problem, problems
from torchplace.compiler.graph import Graph
from torchplace.errors import InfeasibleError
from torchplace.placement.check import check
from torchplace.placement.problem import Evaluation, Problem
from torchplace.placement.solvers.pack import RESERVES, Limits, Room, failure, pack, reject_impossible, within_memory

W = 4 * FLOAT
"""Bytes of each parameter of `chain`."""


@given(st.lists(st.integers(-5, 20), min_size=1, max_size=6), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5))))
def test_room_finds_what_a_search_would(rooms: list[int], takes: list[tuple[int, int]]) -> None:
    names = [f"d{i}" for i in range(len(rooms))]
    room = Room(dict(zip(names, rooms, strict=True)), dict.fromkeys(names, 0))
    left = dict(zip(names, rooms, strict=True))
    for nbytes, which in takes:
        enough = [d for d in names if left[d] >= nbytes]
        assert room.with_room(nbytes)[0] in (enough or names)
        if enough:
            assert room.with_room(nbytes) == enough
            assert left[room.tightest(nbytes)] == min(left[d] for d in enough)
        else:
            assert left[room.tightest(nbytes)] == max(left.values())
        some = names[which % len(names) + 1 :]  # all but these are forbidden
        if some:
            most = [d for d in some if left[d] >= nbytes] or [max(some, key=left.__getitem__)]
            forbidden = set(names) - set(some)
            assert left[room.tightest(nbytes, forbidden)] == min(left[d] for d in most)
            assert [left[d] for d in room.with_room(nbytes, forbidden)] == [left[d] for d in most]
        device = names[which % len(names)]
        room.take(device, nbytes)
        left[device] -= nbytes
        assert room.left == left


def fitting(made: Problem) -> list[dict[str, str]]:
    """Every valid placement, by trying all."""
    everything = (dict(zip(made.ops, where, strict=True)) for where in product(made.devices, repeat=len(made.ops)))
    return [placement for placement in everything if not check(made, placement)]


@given(problems().filter(lambda p: len(p.devices) ** len(p.ops) <= 300))
def test_what_is_rejected_as_impossible_is_impossible(made: Problem) -> None:
    placement = pack(made, made.capacity)
    assert set(placement) == set(made.ops)
    if made.fits(placement):
        assert check(made, placement) == []
        reject_impossible(made)  # does not raise
    elif "no placement fits" in str(failure(made, "x", [])):
        assert fitting(made) == []


def test_the_largest_is_packed_first() -> None:
    b = Builder()
    for name, size in (("a", 3), ("b", 3), ("c", 5), ("d", 5)):  # in this order d finds no room
        b.returns(b.add_op(b.parameter(f"w{name}", size), name=name))
    made = problem(b.graph, machine([8 * FLOAT] * 2))
    placement = pack(made, made.capacity)
    assert made.fits(placement)
    assert placement["c"] != placement["d"]


def test_ops_without_bytes_go_with_their_neighbours() -> None:
    b = Builder()
    before = b.op("aten.full.default", [4], 0.0, name="before")
    heavy = b.add_op(before, b.parameter("w", 4), name="heavy")
    b.returns(b.add_op(heavy, name="after"))
    made = problem(b.graph, machine([0 + 1, 100]))
    assert pack(made, made.capacity) == {"before": "d1", "heavy": "d1", "after": "d1"}


def first(made: Problem) -> dict[str, str]:
    return dict.fromkeys(made.ops, "d0")


def test_memory_that_is_ample_is_left_free() -> None:
    made = problem(chain(2), machine([10**6] * 2))
    asked: list[int] = []

    def attempt(limits: Limits) -> Mapping[str, str]:
        asked.append(limits["d0"])
        return first(made)

    assert within_memory(made, "x", attempt) == first(made)
    assert asked == [10**6 - made.transient_bytes]


def test_where_memory_is_short_the_evaluation_decides_how_much_is_left_free() -> None:
    limits_seen: list[int] = []
    verdicts = iter([False, True])

    def evaluate(placement: Mapping[str, str]) -> Evaluation:
        return Evaluation(1.0, {}, next(verdicts), "d0 lacks 1 byte")

    made = problem(chain(2), machine([2 * W, 2 * W]), evaluate=evaluate)

    def attempt(limits: Limits) -> Mapping[str, str] | None:
        limits_seen.append(limits["d0"])
        return {"v0": "d0", "v1": "d1"} if limits["d0"] >= W else None

    assert within_memory(made, "x", attempt) == {"v0": "d0", "v1": "d1"}
    # The first reserves leave less than a parameter; the next fails when it is run; the one after does not.
    assert limits_seen == [made.limits(r)["d0"] for r in RESERVES[: len(limits_seen)]]
    assert next(verdicts, None) is None


def test_a_packing_helps_where_the_solver_finds_nothing() -> None:
    made = problem(chain(2), machine([W, W]))
    placement = within_memory(made, "x", lambda _: None)
    assert check(made, placement) == []


def test_nothing_that_runs() -> None:
    made = problem(chain(2), machine([W, W]), evaluate=lambda _: Evaluation(1.0, {}, False, "d1 lacks 7 bytes"))
    with pytest.raises(InfeasibleError, match=r"solver 'x' found no placement that fits while it runs; d1 lacks 7"):
        within_memory(made, "x", lambda _: None)


def test_devices_that_are_too_small_together() -> None:
    made = problem(chain(3), machine([W, W]))
    with pytest.raises(
        InfeasibleError,
        match=r"no placement fits: .* need 48 bytes in all, the 2 devices have 32 bytes; d\d lacks 16 bytes .*\)$",
    ):
        within_memory(made, "x", lambda _: None)


def test_pins_that_are_too_much_for_a_device() -> None:
    made = problem(chain(2), machine([W, 2 * W]), pins={"*": "d0"})
    with pytest.raises(InfeasibleError, match=r"with these pins: d0 lacks 16 bytes \(needs 32 bytes, has 16 bytes\)"):
        reject_impossible(made)


def test_ops_that_are_too_much_for_any_device() -> None:
    b = Builder()
    one, two = b.buffer("one", 4), b.buffer("two", 4)
    b.many("aten.foo.default", one, two, shapes=[], name="both", mutates=("one", "two"))
    b.update(one, two, name="write")
    made = problem(b.graph, machine([W, 2 * W - 1]))
    with pytest.raises(InfeasibleError, match=r"op 'both' and 1 with it must be on one device, and d1 lacks 1 byte"):
        reject_impossible(made)


def test_pins_that_are_too_much_are_named_with_their_bytes() -> None:
    made = problem(chain(4), machine([W, 9 * W]), pins={"v0": "d0", "v[23]": "d0", "v1": "d1"})
    with pytest.raises(
        InfeasibleError,
        match=r"these pins: d0 lacks 32 bytes .* the pins put there alone: pin 'v\[23\]': 'd0' puts 32 bytes on d0, "
        r"pin 'v0': 'd0' puts 16 bytes on d0$",
    ):
        within_memory(made, "x", lambda _: None)


def test_what_is_kept_together_and_fits_nowhere_is_named() -> None:
    made = problem(chain(4), machine([3 * W, 2 * W]), together=[["v0", "v1"], ["v1", "v2", "v3"]])
    with pytest.raises(
        InfeasibleError,
        match=r"op 'v0' and 3 with it must be on one device by together \['v0', 'v1'\] and together "
        r"\['v1', 'v2', 'v3'\], and d0 lacks 16 bytes .*, the roomiest$",
    ):
        within_memory(made, "x", lambda _: None)


def test_what_is_too_large_for_the_devices_that_are_left_is_named() -> None:
    b = Builder()
    b.returns(b.add_op(b.parameter("large", 9), name="large"), b.add_op(b.parameter("larger", 10), name="larger"))
    made = problem(b.graph, machine([8 * FLOAT, 7 * FLOAT, 2**20]), forbid={"large": ["d2"]})
    with pytest.raises(
        InfeasibleError,
        match=r"op 'large' must be on one device by forbid 'large': 'd2', and d0 lacks 4 bytes .*, the roomiest that is al",
    ):
        within_memory(made, "x", lambda _: None)


def test_hints_in_force_are_named_where_nothing_was_found() -> None:
    made = problem(chain(4), machine([3 * W, 3 * W, 3 * W, 2**20]), together=[["v0", "v1"]], forbid={"*": ["d2", "d3"]})
    assert check(made, within_memory(made, "x", lambda _: None)) == []
    made = problem(
        chain(4), machine([3 * W, W, 2**20, W - 1]), together=[["v0", "v1"], ["v2", "v3"]], forbid={"*": ["d2"]}
    )
    named = (
        r"solver 'x' found .*; d\d lacks .*; hints in force: together \['v0', 'v1'\], together .*, forbid '\*': 'd2'$"
    )
    with pytest.raises(InfeasibleError, match=named):
        within_memory(made, "x", lambda _: None)


def test_an_attempt_that_knows_no_hints_keeps_to_them() -> None:
    made = problem(chain(3), machine([2**20] * 3), forbid={"v1": ["d0"]})
    assert within_memory(made, "x", lambda _: first(made)) == {"v0": "d0", "v1": "d1", "v2": "d0"}


def test_no_op_on_a_device_that_is_too_small_for_unused_state() -> None:
    graph = Graph("empty")
    Builder(graph).buffer("unused", 4)
    with pytest.raises(InfeasibleError, match="d0 lacks 15 bytes"):
        within_memory(problem(graph, machine([1])), "x", lambda _: {})
