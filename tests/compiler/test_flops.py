from __future__ import annotations

from typing import Any

import torch

from torchplace.compiler.flops import count_flops

aten = torch.ops.aten


def count(target: Any, *args: Any, **kwargs: Any) -> int:
    return count_flops(target, args, kwargs, target(*args, **kwargs))


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_products_count_two_for_each_multiply_add() -> None:
    assert count(aten.mm.default, meta(3, 4), meta(4, 5)) == 2 * 3 * 4 * 5
    assert count(aten.addmm.default, meta(5), meta(3, 4), meta(4, 5)) == 2 * 3 * 4 * 5
    assert count(aten.bmm.default, meta(7, 3, 4), meta(7, 4, 5)) == 7 * 2 * 3 * 4 * 5


def test_convolutions_count_their_windows() -> None:
    ones = ([1, 1], [1, 1], [1, 1])  # stride, padding, dilation
    flops = count(aten.convolution.default, meta(2, 3, 8, 8), meta(5, 3, 3, 3), None, *ones, False, [0, 0], 1)
    assert flops == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)


def test_grouped_products_count_each_row_once() -> None:
    """A mixture of experts: 6 rows, each multiplied with the matrix of one of 3 experts."""
    ends = torch.empty(3, dtype=torch.int32, device="meta")
    rows, experts = meta(6, 16).bfloat16(), meta(3, 16, 8).bfloat16()
    assert count(aten._grouped_mm.default, rows, experts, ends) == 2 * 6 * 16 * 8
    # The gradient of the experts: what is summed over is in groups.
    gradient = meta(6, 8).bfloat16()
    assert count(aten._grouped_mm.default, rows.t(), gradient, ends) == 2 * 16 * 6 * 8


def test_other_ops_count_one_for_each_element() -> None:
    assert count(aten.relu.default, meta(3, 4)) == 12
    assert count(aten.add.Tensor, meta(3, 1), meta(4)) == 12
    assert count(aten.sum.default, meta(3, 4)) == 12, "of what it takes, where that is more than it makes"
    assert count(aten.native_layer_norm.default, meta(3, 4), [4], None, None, 1e-5) == 12


def test_views_cost_nothing() -> None:
    assert count(aten.view.default, meta(3, 4), [12]) == 0
    assert count(aten.t.default, meta(3, 4)) == 0
    assert count(aten.split.Tensor, meta(4, 4), 2) == 0


def test_what_has_no_tensor_costs_nothing() -> None:
    assert count_flops(max, (1, 2), {}, 2) == 0
