from __future__ import annotations

import pytest

from tests.compiler.graphs import Builder
from torchplace.compiler.graph import Op, Value
from torchplace.compiler.types import ScalarType, TensorType
from torchplace.placement.cost.compute import ComputeCost, Roofline, bytes_touched, is_free
from torchplace.placement.topology import Device

COST: ComputeCost = Roofline()
# 100 FLOP/s in float32 and 1000 in float16, 10 bytes/s, a quarter of a second for each launch.
DEVICE = Device("d", "toy", 2**20, {"float32": 100.0, "float16": 1000.0}, 10.0, 0.25)


def product(flops: int, dtype: str = "float32") -> Op:
    """x (2 elements), y (3) -> 5 elements."""
    x, y, z = (Value(n, TensorType(dtype, (size,)), kind=None) for n, size in (("x", 2), ("y", 3), ("z", 5)))
    return Op("z", "aten.mm.default", (x, y), outputs=(z,), flops=flops)


def test_name() -> None:
    assert COST.name == "roofline"


def test_below_the_ridge_memory_decides() -> None:
    # 10 elements of 4 bytes at 10 bytes/s: 4 s; 100 FLOP at 100 FLOP/s: 1 s.
    assert COST.time(product(flops=100), DEVICE) == pytest.approx(4.0 + 0.25)


def test_above_the_ridge_flops_decide() -> None:
    assert COST.time(product(flops=900), DEVICE) == pytest.approx(9.0 + 0.25)


def test_the_peak_is_that_of_the_dtype() -> None:
    # 20 bytes: 2 s; 9000 FLOP at 1000 FLOP/s: 9 s.
    assert COST.time(product(flops=9000, dtype="float16"), DEVICE) == pytest.approx(9.0 + 0.25)


def test_an_op_without_work_still_costs_its_launch() -> None:
    nothing = Op("z", "aten.empty.memory_format", outputs=(Value("z", TensorType("float32", (0,))),))
    assert COST.time(nothing, DEVICE) == 0.25


def test_a_view_is_free() -> None:
    b = Builder()
    view = b.view(b.input("x", 4)).producer
    assert view is not None
    assert is_free(view)
    assert COST.time(view, DEVICE) == 0.0


def test_arithmetic_on_scalars_is_free() -> None:
    n = Value("n", ScalarType("int"))
    op = Op("m", "operator.mul", (n, 2), outputs=(Value("m", ScalarType("int")),), flops=1)
    assert COST.time(op, DEVICE) == 0.0


def test_a_look_at_sizes_is_free_but_one_at_data_is_not() -> None:
    x, n = Value("x", TensorType("float32", (4,)), kind="input"), Value("n", ScalarType("int"))
    assert COST.time(Op("n", "aten.sym_size.int", (x, 0), outputs=(n,)), DEVICE) == 0.0
    assert COST.time(Op("n", "aten._local_scalar_dense.default", (x,), outputs=(n,)), DEVICE) > 0.25


def test_an_update_in_place_that_returns_nothing_is_not_free() -> None:
    b = Builder()
    op = b.update(b.buffer("b", 5), b.input("x", 5))
    assert COST.time(op, DEVICE) == pytest.approx(40 / 10 + 0.25)


def test_a_look_up_reads_the_rows_that_it_makes_not_the_table() -> None:
    b = Builder()
    table, indices = b.parameter("table", 1000, 4), b.input("ids", 3)
    rows = b.op("aten.embedding.default", table, indices, shape=(3, 4)).producer
    assert rows is not None
    assert bytes_touched(rows) == 4 * (12 + 3 + 12)  # rows read, indices, rows written


def test_a_look_up_never_reads_more_than_the_table() -> None:
    b = Builder()
    made = b.op("aten.gather.default", b.input("x", 2), 0, b.input("i", 50), shape=(50,)).producer
    assert made is not None
    assert bytes_touched(made) == 4 * (2 + 50 + 50)
