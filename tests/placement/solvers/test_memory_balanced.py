from __future__ import annotations

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, machine, problem
from torchplace.placement.solvers.memory_balanced import MemoryBalanced


def test_equal_bytes() -> None:
    made = problem(chain(6), machine([10**6] * 3, [1.0, 5.0, 9.0]))
    assert list(MemoryBalanced().solve(made).values()) == ["d0", "d0", "d1", "d1", "d2", "d2"]


def test_the_largest_piece_is_as_small_as_it_can_be() -> None:
    b = Builder()
    at = b.input("x", 1)
    for i, size in enumerate((5, 1, 1, 1, 4)):
        at = b.add_op(at, b.parameter(f"w{i}", size), shape=(1,))
    made = problem(b.returns(at), machine([10**6] * 2))
    load = made.resident(MemoryBalanced().solve(made))
    assert sorted(load.values()) in ([6 * FLOAT] * 2, [5 * FLOAT, 7 * FLOAT])
    assert max(load.values()) == 6 * FLOAT


def test_a_small_device_gets_what_it_can_hold() -> None:
    transient = problem(chain(6), machine([1])).transient_bytes
    made = problem(chain(6), machine([16 + transient, 10**6]))
    assert list(MemoryBalanced().solve(made).values()) == ["d0"] + ["d1"] * 5
