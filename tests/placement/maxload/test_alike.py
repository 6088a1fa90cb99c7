from __future__ import annotations

from tests.compiler.graphs import chain
from tests.placement.graphs import machine, problem
from torchplace.placement.maxload.alike import alike_devices
from torchplace.placement.problem import Problem


def made(slowness: list[float]) -> Problem:
    return problem(chain(2), machine([2**20] * len(slowness), slowness))


def test_speed_room_and_what_is_there_make_kinds() -> None:
    room = {"d0": 9, "d1": 9, "d2": 9, "d3": 8, "d4": 9}
    found = alike_devices(made([1.0, 2.0, 1.0, 1.0, 1.0]), room, 1000, {"d4": 0.5})
    assert found == [["d0", "d2"], ["d1"], ["d3"], ["d4"]]


def test_where_there_are_too_many_ways_speed_alone_makes_kinds() -> None:
    room = {f"d{i}": i for i in range(4)}
    assert alike_devices(made([1.0] * 4), room, 16) == [["d0"], ["d1"], ["d2"], ["d3"]]
    assert alike_devices(made([1.0] * 4), room, 15) == [["d0", "d1", "d2", "d3"]]


def test_where_there_are_too_many_ways_still_devices_are_left_out() -> None:
    found = alike_devices(made([1.0] * 9 + [2.0] * 3), dict.fromkeys((f"d{i}" for i in range(12)), 1), 20)
    assert found == [["d0", "d1", "d2", "d3"], ["d9", "d10", "d11"]]
