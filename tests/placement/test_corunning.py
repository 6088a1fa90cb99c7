"""Devices that slow each other, computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.placement.test_flows import Clock
from torchplace.placement.corunning import CoRunning, Load
from torchplace.placement.topology import CoRun

DEVICES = ("a", "b", "c")


def ends(group: CoRun, *loads: tuple[float, Load]) -> list[float]:
    """When loads end that begin at some times."""
    clock, found = Clock(), [0.0] * len(loads)
    running = CoRunning(group, clock.later)

    def begin(n: int, start: float, load: Load) -> None:
        def done(now: float) -> None:
            found[n] = now

        clock.later(start, lambda now: running.run(now, load, done))

    for n, (start, load) in enumerate(loads):
        begin(n, start, load)
    clock.run()
    return found


def test_alone_nothing_is_slower() -> None:
    group = CoRun("cores", DEVICES, 2.0, (1.0, 2.0), 5.0)
    assert ends(group, (0.0, Load(3.0)), (3.0, Load(1.0, 2.0, 1.0))) == [3.0, 4.0]


def test_no_more_work_than_there_are_cores() -> None:
    group = CoRun("cores", DEVICES, 2.0)
    assert ends(group, (0.0, Load(4.0, 1.0)), (0.0, Load(4.0, 1.0))) == [4.0, 4.0], "a core each"
    assert ends(group, (0.0, Load(4.0, 2.0)), (0.0, Load(4.0, 2.0))) == [8.0, 8.0], "two each, of two"
    # Asked for 3 of 2 cores: 2/3 of the speed till 3, when the first ends; then alone.
    assert ends(group, (0.0, Load(2.0, 1.0)), (0.0, Load(4.0, 2.0))) == pytest.approx([3.0, 5.0])


def test_by_the_number_of_devices_that_compute() -> None:
    group = CoRun("power", DEVICES, None, (1.0, 1.25, 2.0))
    assert ends(group, (0.0, Load(4.0)), (0.0, Load(4.0))) == [5.0, 5.0]
    assert ends(group, *[(0.0, Load(4.0))] * 3) == [8.0] * 3
    assert ends(group, *[(0.0, Load(4.0))] * 4) == [8.0] * 4, "the last factor stands for more"


def test_as_long_as_they_meet() -> None:
    """Half of the speed from 2 to 6, when the second ends: the first has 6 - 2 - 2 left."""
    group = CoRun("cores", DEVICES, 1.0)
    assert ends(group, (0.0, Load(6.0)), (2.0, Load(2.0))) == [8.0, 6.0]


def test_those_that_keep_the_host_busy_hinder_each_other() -> None:
    """Longer by 2 x own grip x the other's."""
    group = CoRun("cores", DEVICES, None, (1.0,), 2.0)
    assert ends(group, (0.0, Load(4.0, 1.0, 1.0)), (0.0, Load(4.0, 1.0, 0.5))) == [8.0, 8.0]
    assert ends(group, (0.0, Load(4.0, 1.0, 1.0)), (0.0, Load(4.0, 1.0, 0.0))) == [4.0, 4.0]


def test_work_is_conserved_whenever_they_meet() -> None:
    """With one core for all, as much is done as there is time."""
    group = CoRun("cores", DEVICES, 1.0)
    for starts in ((0.0, 0.5, 0.75), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0)):
        loads = [(start, Load(1.0 + n)) for n, start in enumerate(starts)]
        assert max(ends(group, *loads)) == pytest.approx(6.0)


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(1e-9, 3), st.floats(0, 4), st.floats(0, 1)), min_size=1, max_size=8)
)
@example([(0.0, 0.1, 1.0, 1.0), (0.0, 0.1 + 1e-16, 1.0, 1.0)])
def test_all_that_begins_ends_and_none_is_faster_than_alone(given_loads: list[tuple[float, ...]]) -> None:
    """A load may end by rounding at the very time at which another has ended: none may be forgotten."""
    group = CoRun("cores", tuple(f"d{i}" for i in range(8)), 2.0, (1.0, 1.1), 3.0)
    loads = [(start, Load(*load)) for start, *load in given_loads]
    for (start, load), end in zip(loads, ends(group, *loads), strict=True):
        assert end >= start + load.seconds * (1 - 1e-9)
