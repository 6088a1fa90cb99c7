"""The models that benchmarks plan: each is one graph, of the size that it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks._planned import MODELS, Planned, images
from torchplace.errors import CaptureError

PARAMETERS = {
    "gpt2": 124_439_808,
    "bert": 109_514_298,
    "t5": 222_903_552,
    "resnet50": 25_557_032,
    "inception": 23_834_568,
}
"""As the papers or the published checkpoints have them."""


class Broken(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        more = images + 1
        torch._dynamo.graph_break()
        return more * 2


@pytest.mark.parametrize("name", PARAMETERS)
def test_models_are_of_the_published_size(name: str) -> None:
    with torch.device("meta"):
        model, inputs = MODELS[name].make()
    tensors = [*model.parameters(), *inputs.values()]
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert all(tensor.device.type == "meta" for tensor in tensors)


def test_a_capture_has_the_backward_only_in_training() -> None:
    model = Planned("toy", lambda: (nn.Conv2d(3, 4, 3), {"input": images(2, 8)}))
    assert [model.capture(training).training for training in (False, True)] == [False, True]


def test_a_model_that_breaks_is_refused_by_its_name() -> None:
    def make() -> tuple[nn.Module, dict[str, torch.Tensor]]:
        return Broken(), {"images": images(2, 8)}

    with pytest.raises(CaptureError, match="broken breaks into 2 graphs"):
        Planned("broken", make).capture(training=False)
