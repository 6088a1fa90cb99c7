from __future__ import annotations

import math
import operator

import pytest
import torch

from torchplace.compiler.targets import (
    aliased_argument,
    is_random,
    output_mask,
    resolve_target,
    target_name,
    written_arguments,
)
from torchplace.errors import GraphError

KNOWN = {
    "aten.mm.default": torch.ops.aten.mm.default,
    "aten.add.Tensor": torch.ops.aten.add.Tensor,
    "prims.convert_element_type.default": torch.ops.prims.convert_element_type.default,
    "operator.mul": operator.mul,
    "math.ceil": math.ceil,
    "builtins.max": max,
    "higher_order.cond": torch.ops.higher_order.cond,
    "torch.sym_max": torch.sym_max,
}


@pytest.mark.parametrize("name", KNOWN)
def test_names_lead_back(name: str) -> None:
    assert target_name(KNOWN[name]) == name
    assert resolve_target(name) is KNOWN[name]


def test_a_target_without_a_name_is_an_error() -> None:
    with pytest.raises(GraphError, match="cannot name the call target"):
        target_name(lambda x: x)
    with pytest.raises(GraphError, match="cannot name the call target"):
        target_name(test_names_lead_back)


@pytest.mark.parametrize("name", ["aten.no_such.default", "nolibrary.op.default", "operator.nothing", "aten.mm.nope"])
def test_an_unknown_name_is_an_error(name: str) -> None:
    with pytest.raises(GraphError, match=f"unknown operator '{name}'"):
        resolve_target(name)


def test_what_is_known_of_aliases_and_writes() -> None:
    assert aliased_argument("aten.view.default") == 0
    assert aliased_argument("aten.split.Tensor") == 0
    assert aliased_argument("aten._unsafe_view.default") == 0
    assert aliased_argument("aten.unsafe_split.Tensor") == 0
    assert aliased_argument("aten.mm.default") is None
    assert aliased_argument("operator.mul") is None
    assert aliased_argument("aten.copy_.default") is None
    assert written_arguments("aten.copy_.default") == (0,)
    assert written_arguments("aten.add.Tensor") == ()
    assert written_arguments("operator.mul") == ()


def test_which_argument_says_what_results_are_wanted() -> None:
    assert output_mask("aten.native_batch_norm_backward.default") == 9
    assert output_mask("aten.convolution_backward.default") == 10
    assert output_mask("aten.mm.default") is None
    assert output_mask("operator.mul") is None


def test_views_that_do_not_say_so_share_memory() -> None:
    x = torch.ones(4, 6)
    made = [
        torch.ops.aten._unsafe_view.default(x, [6, 4]),
        *torch.ops.aten.unsafe_split.Tensor(x, 3, 1),
        *torch.ops.aten.unsafe_split_with_sizes.default(x, [1, 5], 1),
        torch.ops.aten._reshape_alias.default(x, [6, 4], [4, 1]),
    ]
    assert {t.untyped_storage().data_ptr() for t in made} == {x.untyped_storage().data_ptr()}


def test_what_draws_random_numbers() -> None:
    assert is_random("aten.bernoulli.p")
    assert is_random("aten.native_dropout.default")
    assert not is_random("aten.mm.default")
    assert not is_random("operator.mul")
