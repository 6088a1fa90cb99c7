from __future__ import annotations

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, Table, machine, perceptron, problem
from torchplace.placement.check import check
from torchplace.placement.solvers.balanced import Balanced

W = 4 * FLOAT


def test_pieces_take_equal_time() -> None:
    cost = Table({"v0": 4.0, "v1": 1.0, "v2": 1.0, "v3": 2.0})
    made = problem(chain(4), machine([10**6] * 2), cost=cost)
    assert Balanced().solve(made) == {"v0": "d0", "v1": "d1", "v2": "d1", "v3": "d1"}


def test_a_slow_device_gets_less() -> None:
    made = problem(chain(4), machine([10**6] * 2, [3.0, 1.0]))
    assert Balanced().solve(made) == {"v0": "d0", "v1": "d1", "v2": "d1", "v3": "d1"}


def test_a_device_that_is_too_slow_gets_nothing() -> None:
    made = problem(chain(3), machine([10**6] * 3, [1.0, 100.0, 1.0]))
    assert "d1" not in Balanced().solve(made).values()


def test_backward_time_counts_and_goes_along() -> None:
    made = problem(perceptron((8, 4, 2)), machine([10**6] * 2), training=True)
    # layer0: two ops, layer1 and layer2: three each.
    placement = Balanced().solve(made)
    assert {placement[op] for op in ("layer0", "grad0", "layer1", "grad1", "back1")} == {"d0"}
    assert {placement[op] for op in ("layer2", "grad2", "back2")} == {"d1"}


def test_memory_moves_a_cut() -> None:
    cost = Table({"v0": 9.0})
    made = problem(chain(4), machine([10**6, 2 * W]), cost=cost)
    placement = Balanced().solve(made)  # by time alone v1 would be on d1
    assert list(placement.values()) in (["d0", "d0", "d1", "d1"], ["d0", "d0", "d0", "d1"], ["d0"] * 4)
    assert check(made, placement) == []


def test_where_no_cut_fits_ops_are_packed() -> None:
    b = Builder()
    at = b.input("x", 1)
    for i, size in enumerate((5, 5, 3, 3)):  # every cut leaves more than 8 to one of two devices
        at = b.add_op(at, b.parameter(f"w{i}", size), shape=(1,))
    made = problem(b.returns(at), machine([8 * FLOAT] * 2))
    assert check(made, Balanced().solve(made)) == []
