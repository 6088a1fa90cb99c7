"""Splitting arguments into micro-batches, and joining what these return."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from torchplace.errors import OptionError
from torchplace.runtime.microbatches import BatchDims, Call, Splitter, join, weighted


def split(microbatches: int, *args: Any, dims: BatchDims = 0, names: tuple[str, ...] = (), **kwargs: Any) -> list[Call]:
    return Splitter(microbatches, dims, names).split(Call(args, kwargs)).calls


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 2))
def test_pieces_are_those_of_torch_chunk(microbatches: int, rows: int, dim: int) -> None:
    shape = [2, 3, 4]
    shape[dim] = rows
    x = torch.arange(float(torch.tensor(shape).prod())).reshape(shape)
    found = Splitter(microbatches, dim).split(Call((x,), {}))
    expected = x.chunk(microbatches, dim)
    assert [c.args[0].tolist() for c in found.calls] == [piece.tolist() for piece in expected]
    assert found.rows == [piece.size(dim) for piece in expected]


@given(st.integers(1, 9), st.integers(1, 20))
def test_what_was_split_is_joined(microbatches: int, rows: int) -> None:
    x = torch.randn(rows, 3)
    found = Splitter(microbatches).split(Call((x,), {}))
    assert torch.equal(join([c.args[0] for c in found.calls], found.rows, [0.0] * len(found.rows), 0), x)


def test_whatever_is_no_tensor_with_rows_goes_to_all() -> None:
    x, number, other = torch.arange(4.0), torch.tensor(3.0), object()
    calls = split(2, [x, {"a": (x, None)}], 7, number, flag=True, other=other)
    assert len(calls) == 2
    for k, call in enumerate(calls):
        (first, nested), seven, same = call.args
        assert torch.equal(first, x[2 * k : 2 * k + 2])
        assert nested["a"][0] is first, "the same tensor is cut once"
        assert nested["a"][1] is None
        assert seven == 7
        assert same is number
        assert call.kwargs == {"flag": True, "other": other}


def test_dims_by_name_of_positional_keyword_and_further_arguments() -> None:
    a, b, c, table = torch.randn(4, 2), torch.randn(3, 4), torch.randn(4, 1), torch.randn(9, 9)
    dims = {"b": 1, "table": None, "args[2]": 0}
    calls = split(2, a, b, c, dims=dims, names=("a", "b"), table=table)
    assert [tuple(t.shape) for t in calls[1].args] == [(2, 2), (3, 2), (2, 1)]
    assert all(call.kwargs["table"] is table for call in calls)


def test_the_target_has_a_name_too() -> None:
    call = Call((torch.randn(4, 2),), {}, (torch.randn(3, 4),))
    found = Splitter(2, {"target": 1}).split(call)
    assert [tuple(c.target[0].shape) for c in found.calls] == [(3, 2), (3, 2)]


def test_pieces_share_memory_and_can_be_written_to() -> None:
    x = torch.zeros(4, requires_grad=True)
    y = x * 1
    for k, call in enumerate(split(2, y)):
        call.args[0].add_(k)
    assert y.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("kwargs", "dims", "message"),
    [
        ({"a": torch.ones(4), "b": torch.ones(3)}, 0, r"input 'b' has 3 rows \(dim 0\), 'a' has 4; expected as many"),
        ({"a": torch.ones(4), "b": torch.ones(3)}, {"a": None, "b": None}, "no input of the step is a tensor with a"),
        ({"a": 4}, 0, "no input of the step is a tensor with a batch dim"),
        ({"a": torch.ones(4)}, 1, r"input 'a' has 1 dim\(s\), and no dim 1 that counts rows; pass batch_dims=\{'a': "),
    ],
)
def test_inputs_that_do_not_fit_are_named(kwargs: dict[str, Any], dims: BatchDims, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Splitter(2, dims).split(Call((), kwargs))


def test_a_batch_without_rows_is_one_microbatch() -> None:
    found = Splitter(3).split(Call((torch.ones(0, 2),), {}))
    assert found.rows == [0]
    assert found.calls[0].args[0].shape == (0, 2)


def test_names_of_dims_may_lack_the_output() -> None:
    assert Splitter(2, {"x": 1}).output_dim == 0
    assert Splitter(2, {"x": 1, "output": 2}).output_dim == 2
    assert Splitter(2, 1).output_dim == 1


ROWS, WEIGHTS = [2, 1], [2 / 3, 1 / 3]


@pytest.mark.parametrize(
    ("pieces", "dim", "expected"),
    [
        ([torch.ones(2, 3), torch.zeros(1, 3)], 0, torch.tensor([[1.0] * 3, [1.0] * 3, [0.0] * 3])),
        ([torch.ones(3, 2), torch.zeros(3, 1)], 1, torch.tensor([[1.0, 1.0, 0.0]] * 3)),
        ([torch.tensor(3.0), torch.tensor(6.0)], 0, torch.tensor(4.0)),
        ([torch.tensor(3), torch.tensor(6)], 0, torch.tensor(3)),
        ([torch.ones(4), torch.zeros(2)], 0, torch.tensor([1.0] * 4 + [0.0] * 2)),
        ([torch.ones(3, 2), torch.zeros(3, 2)], None, torch.tensor([[1.0] * 2] * 3 + [[0.0] * 2] * 3)),
    ],
)
def test_outputs_are_joined_by_their_rows_and_numbers_by_their_weights(
    pieces: list[torch.Tensor], dim: int | None, expected: torch.Tensor
) -> None:
    torch.testing.assert_close(join(pieces, ROWS, WEIGHTS, dim), expected)


def test_what_there_is_only_once_stays() -> None:
    state = torch.ones(2, 3)
    assert join([state], ROWS, WEIGHTS, 0) is state, "it stands for all micro-batches, though it has as many rows"
    assert join(["a", "b"], ROWS, WEIGHTS, 0) == "a"
    assert join([torch.tensor(2.0)], ROWS, WEIGHTS, 0) == 2.0


def test_what_counts_for_nothing_may_be_anything() -> None:
    assert weighted([torch.tensor(float("nan")), torch.tensor(2.0)], [0.0, 1.0]) == 2.0


@given(st.integers(1, 5))
def test_the_tree_of_arguments_stays(microbatches: int) -> None:
    args = ({"x": torch.ones(5), "y": [torch.ones(5, 1), (None, "a")]},)
    for call in Splitter(microbatches).split(Call(args, {})).calls:
        assert pytree.tree_structure(call.args) == pytree.tree_structure(args)
