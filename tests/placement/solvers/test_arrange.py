from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import chain
from tests.placement.graphs import problem, problems
from torchplace.placement.coarse.loads import Loads
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.arrange import arrange
from torchplace.placement.topology import Device, Topology, both_ways


def squares(coarse: Coarse, placed: list[int]) -> float:
    return sum(seconds * seconds for seconds in Loads(coarse, placed).link.values())


@given(problems(), st.data())
def test_links_are_less_busy_and_devices_hold_what_one_of_them_held(made: Problem, data: st.DataObject) -> None:
    coarse = Coarse.of(made, 100)
    count = len(made.devices)
    anywhere = st.lists(st.integers(0, count - 1), min_size=len(coarse.items), max_size=len(coarse.items))
    before = [pin if pin >= 0 else d for pin, d in zip(coarse.pinned, data.draw(anywhere), strict=True)]
    alike = data.draw(st.lists(st.integers(0, count - 1), unique=True))
    after = arrange(coarse, before, [alike])
    assert after == arrange(coarse, before, [alike])
    moved = {(old, new) for item, (old, new) in enumerate(zip(before, after, strict=True)) if coarse.pinned[item] < 0}
    assert max(Counter(old for old, _ in moved).values(), default=1) == 1
    assert max(Counter(new for _, new in moved).values(), default=1) == 1
    assert all(old == new or {old, new} <= {*alike} for old, new in moved)
    assert all(after[item] == pin for item, pin in enumerate(coarse.pinned) if pin >= 0)
    if all(pin < 0 for pin in coarse.pinned):
        assert squares(coarse, after) <= squares(coarse, before) * (1 + 1e-9) + 1e-12


def test_a_pipeline_follows_the_fast_links() -> None:
    """Four devices in a ring: fast links from 0 to 2, 2 to 1 and 1 to 3; slow ones between all others."""
    devices = tuple(Device(f"d{i}", "toy", 2**20, {"float32": 1.0}, 1.0, 1.0) for i in range(4))
    fast = [("d0", "d2"), ("d2", "d1"), ("d1", "d3")]
    slow = [("d0", "d1"), ("d0", "d3"), ("d2", "d3")]
    links = [link for a, b in fast for link in both_ways(a, b, "wire", 100.0, 0.0)]
    links += [link for a, b in slow for link in both_ways(a, b, "wire", 1.0, 0.0)]
    made = problem(chain(4), Topology("ring", devices, (), tuple(links)))
    coarse = Coarse.of(made, 100)
    assert arrange(coarse, [0, 1, 2, 3], [range(4)]) in ([0, 2, 1, 3], [3, 1, 2, 0])
    assert arrange(coarse, [0, 1, 2, 3], [[0, 1], [2, 3]]) == [0, 1, 2, 3]
    made = problem(chain(4), Topology("ring", devices, (), tuple(links)), pins={"v0": "d3"})
    assert arrange(Coarse.of(made, 100), [3, 0, 2, 1], [range(3)]) == [3, 1, 2, 0]
