from __future__ import annotations

from dataclasses import replace

import pytest

from tests.placement.graphs import machine
from torchplace.placement.bounds.machine import machines
from torchplace.placement.topology import CoRun, Topology


def sharing(count: int, threads: int | None, slowdown: tuple[float, ...] = (1.0,)) -> Topology:
    alike = machine([64] * count)
    return replace(alike, coruns=(CoRun("cores", alike.device_names, None, slowdown, 0.0, threads),))


def test_devices_that_are_alike_are_a_sort() -> None:
    [sorts] = machines(machine([64, 64, 32, 64], [1.0, 3.0, 1.0, 1.0]))
    assert [(sort.names, sort.number, sort.memory) for sort in sorts] == [
        (("d0", "d3"), 2, 64),
        (("d1",), 1, 64),
        (("d2",), 1, 32),
    ]


def test_a_device_of_which_something_is_said_is_a_sort_of_its_own() -> None:
    [sorts] = machines(machine([64] * 3), apart={"d1"})
    assert [sort.names for sort in sorts] == [("d0", "d2"), ("d1",)]


def test_each_share_of_threads_is_a_machine_with_as_many_devices_as_get_it() -> None:
    found = machines(sharing(8, 8))
    assert [(sort.number, sort.likes[0].threads) for [sort] in found] == [(1, 8), (2, 4), (4, 2), (8, 1)]
    assert [sort.likes[0].peak("float32") for [sort] in found] == [8.0, 4.0, 2.0, 1.0]


def test_of_too_many_machines_one_is_made_with_every_number_of_threads() -> None:
    [[sort]] = machines(sharing(8, 8), most=3)
    assert sort.number == 8
    assert sorted(device.threads or 0 for device in sort.likes) == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("slowdown", "together"), [((1.0,), 3.0), ((1.0, 1.25, 2.0), 1.6), ((1.0, 4.0), 1.0), ((1.0, 2.0, 1.5), 2.0)]
)
def test_devices_that_slow_each_other_do_less_work_at_a_time(slowdown: tuple[float, ...], together: float) -> None:
    [[sort]] = machines(sharing(3, None, slowdown))
    assert (sort.number, sort.together) == (3, together)
