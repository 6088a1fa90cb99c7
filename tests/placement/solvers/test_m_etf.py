from __future__ import annotations

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table, machine, problem
from torchplace.placement.check import check
from torchplace.placement.solvers.m_etf import MemoryEtf


def test_what_can_start_first_is_next_wherever_it_can() -> None:
    """Two ops are ready; the long one has one device, the short one the other; what follows the short one starts first."""
    b = Builder()
    x = b.input("x", 4)
    long, short = b.add_op(x, name="long"), b.add_op(x, name="short")
    b.returns(b.add_op(short, name="after"), b.add_op(long, name="last"))
    made = problem(b.graph, machine([2**20] * 2, bandwidth=1e9), cost=Table({"long": 5.0, "short": 1.0}))
    placement = MemoryEtf().solve(made)
    assert placement["long"] != placement["short"] == placement["after"]


def test_a_slow_link_is_not_crossed() -> None:
    assert len(set(MemoryEtf().solve(problem(chain(5), machine([2**20] * 3, bandwidth=1.0))).values())) == 1


def test_a_full_device_is_passed_over() -> None:
    made = problem(chain(6), machine([2 * 16, 4 * 16]))
    assert check(made, MemoryEtf().solve(made)) == []
