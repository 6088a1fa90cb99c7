"""ResNet-50 (He et al. 2015, table 1), from Hugging Face, with random weights.

torchplace compare examples/resnet.py:build --topology big-sur --training
torchplace run examples/resnet.py:build --devices 2 --training
"""

from __future__ import annotations

import torch
from transformers import ResNetConfig, ResNetForImageClassification

import torchplace as tp


def build() -> tuple[ResNetForImageClassification, tuple[torch.Tensor]]:
    """The configuration's defaults are ResNet-50; a batch of 4 images of 64 x 64 pixels."""
    torch.manual_seed(0)
    return ResNetForImageClassification(ResNetConfig()), (torch.randn(4, 3, 64, 64),)


if __name__ == "__main__":
    model, args = build()
    print(tp.plan(model, args, topology="big-sur", training=True))
