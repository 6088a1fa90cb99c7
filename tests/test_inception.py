"""The example of our own that has branches: its size is known, and its branches are captured."""

from __future__ import annotations

import pytest
import torch

from examples.inception import Inception, coarse
from torchplace.compiler.dry import capture_dry

PARAMETERS = 23_834_568
"""Of Inception-v3 without its auxiliary classifier, as published implementations count them."""


@pytest.fixture(scope="module")
def model() -> Inception:
    torch.manual_seed(0)
    return Inception().eval()


def test_its_parameters_are_those_of_the_published_network(model: Inception) -> None:
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS


def test_images_keep_the_sizes_that_the_paper_tells(model: Inception) -> None:
    with torch.device("meta"):
        there = Inception().eval()
        x, sizes = there.stem(torch.empty(1, 3, 299, 299)), []
        for block in there.blocks:
            sizes.append((x.shape[1], x.shape[2]))
            x = block(x)
    assert sizes[0] == (192, 35)
    assert (288, 35) in sizes
    assert (768, 17) in sizes
    assert (1280, 8) in sizes
    assert tuple(x.shape) == (1, 2048, 8, 8)


def test_signals_neither_vanish_nor_explode_before_training(model: Inception) -> None:
    with torch.no_grad():
        scores = model(torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(0)))
    assert scores.shape == (2, 1000)
    assert 0.01 < scores.std().item() < 100
    assert not torch.allclose(scores[0], scores[1])


def test_branches_of_branches_are_captured_as_one_graph() -> None:
    with torch.device("meta"):
        block, x = coarse(1280).eval(), torch.empty(1, 1280, 8, 8)
    [captured] = capture_dry(block, (x,), {}, training=False)
    joins = [op for op in captured.graph.ops if op.target == "aten.cat.default"]
    assert [len(op.inputs) for op in joins] == [2, 2, 4]
