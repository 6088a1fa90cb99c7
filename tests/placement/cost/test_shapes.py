"""The products that ops compute, and the FLOPs of the tiles that cover them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import Builder
from torchplace.compiler.graph import Op, Value
from torchplace.placement.cost.compute import ACCELERATOR_TILE, CPU_TILE, padded_flops
from torchplace.placement.cost.shapes import Product, base_target, product_of


def made(target: str, *inputs: tuple[int, ...], out: tuple[int, ...], rest: tuple[object, ...] = ()) -> Op:
    """One op of a target on tensors of some sizes."""
    b = Builder()
    values: list[Value] = [b.input(f"x{i}", *sizes) for i, sizes in enumerate(inputs)]
    return b.many(target, *values, *rest, shapes=[out])


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (made("aten.mm.default", (3, 5), (5, 7), out=(3, 7)), (1, 3, 7, 5)),
        (made("aten.bmm.default", (2, 3, 5), (2, 5, 7), out=(2, 3, 7)), (2, 3, 7, 5)),
        (made("aten.addmm.default", (7,), (3, 5), (5, 7), out=(3, 7)), (1, 3, 7, 5)),
        (made("aten.mv.default", (3, 5), (5,), out=(3,)), (1, 3, 1, 5)),
        (
            made(
                "aten.convolution.default",
                (2, 4, 8, 8),
                (6, 4, 3, 3),
                out=(2, 6, 8, 8),
                rest=(None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1),
            ),
            (1, 6, 2 * 64, 4 * 9),
        ),
    ],
    ids=lambda value: value.target if isinstance(value, Op) else "",
)
def test_what_is_multiplied_with_what(op: Op, expected: tuple[int, ...]) -> None:
    found = product_of(op)
    assert found is not None
    assert (found.batch, found.m, found.n, found.k) == expected


@pytest.mark.parametrize(
    ("left", "right", "out", "expected"),
    [
        ((12, 5), (4, 5, 7), (12, 7), (4, 3, 7, 5)),  # groups of rows, as experts take tokens
        ((13, 5), (4, 5, 7), (13, 7), (4, 4, 7, 5)),
        ((5, 12), (12, 7), (4, 5, 7), (4, 5, 7, 3)),  # the gradient of the experts
        ((4, 3, 5), (5, 12), (3, 12), (4, 3, 3, 5)),
    ],
)
def test_grouped_products(
    left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    op = made("aten._grouped_mm.default", left, right, (4,), out=out)
    op.flops = 2 * left[-2] * left[-1] * right[-1]
    found = product_of(op)
    assert found is not None
    assert (found.batch, found.m, found.n, found.k) == expected
    assert found.flops == pytest.approx(op.flops)


def test_a_gradient_of_a_grouped_product_counts_both_of_its_products() -> None:
    op = made("transformers.grouped_mm_fallback_backward.default", (12, 5), (4, 5, 7), (4,), (12, 7), out=(12, 5))
    op.flops = 4 * 12 * 5 * 7
    found = product_of(op)
    assert found is not None
    assert (found.batch, found.times) == (4, 2.0)


def test_other_ops_are_no_products() -> None:
    assert product_of(made("aten.add.Tensor", (3, 5), (3, 5), out=(3, 5))) is None


def test_a_target_without_its_overload() -> None:
    assert [base_target(t) for t in ("aten.mm.default", "aten.add.Tensor", "prims.convert")] == [
        "aten.mm",
        "aten.add",
        "prims.convert",
    ]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64), st.sampled_from([CPU_TILE, ACCELERATOR_TILE]))
def test_tiles_cover_a_product_and_more_is_never_less(m: int, n: int, k: int, tile: tuple[int, int, int]) -> None:
    one = padded_flops(Product(1, m, n, k), *tile)
    assert one >= 2 * m * n * k * (1 - 1e-12)
    assert padded_flops(Product(1, m + 1, n, k), *tile) >= one * (1 - 1e-12)
    assert padded_flops(Product(1, m, n + 1, k), *tile) >= one * (1 - 1e-12)


def test_an_empty_tile_takes_as_long_as_a_full_one() -> None:
    assert padded_flops(Product(1, 129, 128, 10), *ACCELERATOR_TILE) == 2 * 256 * 128 * 10
    assert padded_flops(Product(1, 1, 128, 10), *ACCELERATOR_TILE) == 2 * 16 * 128 * 10
