from __future__ import annotations

from tests.compiler.graphs import chain
from tests.placement.graphs import FLOAT, machine, problem
from torchplace.placement.solvers.round_robin import RoundRobin

W = 4 * FLOAT


def test_ops_are_dealt_out() -> None:
    made = problem(chain(5), machine([10**6] * 3))
    assert list(RoundRobin().solve(made).values()) == ["d0", "d1", "d2", "d0", "d1"]


def test_pinned_ops_take_no_turn() -> None:
    made = problem(chain(4), machine([10**6] * 2), pins={"v1": "d0"})
    assert list(RoundRobin().solve(made).values()) == ["d0", "d0", "d1", "d0"]


def test_a_full_device_is_passed_over() -> None:
    made = problem(chain(6), machine([10**6, 2 * W, 10**6]))
    # Nothing is left of d1 when room is kept for what comes and goes (48 bytes of its 32).
    assert "d1" not in RoundRobin().solve(made).values()
    made = problem(chain(6), machine([10**6, 2 * W + made.transient_bytes, 10**6]))
    assert list(RoundRobin().solve(made).values()) == ["d0", "d1", "d2", "d0", "d1", "d2"]
    made = problem(chain(6), machine([10**6, W + made.transient_bytes, 10**6]))
    assert list(RoundRobin().solve(made).values()) == ["d0", "d1", "d2", "d0", "d2", "d0"]
