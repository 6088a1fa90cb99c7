"""What is left to eager is said once, and not where a plan says it."""

from __future__ import annotations

import warnings

import pytest
import torch

import torchplace as tp
from torchplace.compiler.left_out import LeftOut


def test_a_reason_is_told_once() -> None:
    left = LeftOut("Net")
    left.add("Hooks: of a module")
    left.add("Hooks: of a module")
    with pytest.warns(UserWarning, match="something of 'Net' cannot be captured.*: Hooks: of a module$"):
        left.tell(1)
    left.add("Hooks: of a module")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        left.tell(1)
    left.add("Another")
    with pytest.warns(UserWarning, match=": Another$"):
        left.tell(1)


def test_what_a_graph_names_is_not_told_again() -> None:
    left = LeftOut("Net")
    left.add("Call to graph_break(): with no arguments")
    assert left.around("net.py:7: Call to graph_break()") == "net.py:7: Call to graph_break()"
    assert left.around("") == "", "the graph behind the break"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        left.tell(1)


def test_graphs_in_the_midst_of_what_is_left_out_say_so() -> None:
    left = LeftOut("Net")
    assert left.around("") == ""
    left.add("Observed exception: AttributeError")
    assert left.around("") == "something before it runs as it is: Observed exception: AttributeError"


def test_a_look_at_a_value_that_leaves_a_model_uncaptured_is_told() -> None:
    """Dynamo does not count such breaks: nothing was captured, and nobody said so."""

    def same(x: torch.Tensor, y: torch.Tensor) -> bool:
        return torch.allclose(x, y)

    placed = tp.compile(same, topology="local:2", cost="roofline")
    with pytest.warns(UserWarning, match="something of 'same' cannot be captured.*Data dependent operator"):
        assert placed(torch.ones(3), torch.ones(3))
    assert tp.plans(placed) == []
