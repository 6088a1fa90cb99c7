from __future__ import annotations

import pytest

from tests.compiler.graphs import chain
from tests.placement.graphs import machine, problem
from torchplace.placement.solvers.schedule import MAX_CANDIDATES, Schedule


@pytest.mark.parametrize("count", [3, MAX_CANDIDATES + 8])
@pytest.mark.parametrize("finish", [True, False])
def test_a_forbidden_device_is_passed_over(count: int, finish: bool) -> None:
    """The first devices are the fastest, but for the last."""
    made = problem(
        chain(2),
        machine([2**20] * count, [*(1.0 + i for i in range(count - 1)), 0.5], bandwidth=1.0),
        forbid={"v0": ["d0", f"d{count - 1}"]} if count > 3 else {"v0": ["d2"]},
    )
    schedule = Schedule(made, made.capacity)
    first, second = made.graph.ops
    choice = schedule.best(first, finish)
    assert choice is not None
    assert choice.device == ("d1" if count > 3 else "d0")
    schedule.settle(first, choice)
    after = schedule.best(second, finish)
    assert after is not None
    assert after.device == choice.device if finish else made.allows("v1", after.device)


def test_where_all_that_is_allowed_is_full_there_is_no_choice() -> None:
    made = problem(chain(1), machine([2**20, 1, 1]), forbid={"v0": ["d0"]})
    assert Schedule(made, made.capacity).best(made.graph.ops[0], True) is None
