from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import chain
from tests.placement.graphs import machine, problem, problems
from torchplace.placement.coarse.loads import Loads
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.problem import Problem


@given(problems(), st.integers(1, 12), st.data())
def test_moves_leave_what_a_fresh_count_finds(made: Problem, most: int, data: st.DataObject) -> None:
    coarse = Coarse.of(made, most)
    device = st.integers(0, len(made.devices) - 1)
    placed = [data.draw(device) for _ in coarse.items]
    loads = Loads(coarse, placed)
    for _ in range(data.draw(st.integers(0, 4)) if placed else 0):
        item = data.draw(st.integers(0, len(placed) - 1))
        placed[item] = data.draw(device)
        loads.move((item,), placed[item])
    fresh = Loads(coarse, placed)
    assert loads.placed == placed
    assert loads.device == pytest.approx(fresh.device, abs=1e-9)
    assert {k: s for k, s in loads.link.items() if s > 1e-9} == pytest.approx(fresh.link, abs=1e-9)
    assert loads.norm == pytest.approx(fresh.norm, rel=1e-3, abs=1e-9)


def test_the_busiest_device_or_link() -> None:
    made = problem(chain(4), machine([2**20] * 2, bandwidth=16.0), objective="throughput")
    coarse = Coarse.of(made, 10)
    assert Loads(coarse, [0, 0, 1, 1]).period == made.evaluate(coarse.place([0, 0, 1, 1])).period == 2.0
    slow = problem(chain(4), machine([2**20] * 2, bandwidth=2.0), objective="throughput")
    assert Loads(Coarse.of(slow, 10), [0, 1, 0, 1]).period == 16.0


def test_a_smaller_load_beside_an_equal_one_counts() -> None:
    coarse = Coarse.of(problem(chain(6), machine([2**20] * 3, bandwidth=1e9)), 10)
    two, one = Loads(coarse, [0, 0, 0, 1, 1, 1]), Loads(coarse, [0, 0, 0, 1, 1, 2])
    assert two.period == one.period
    assert one.norm < two.norm
