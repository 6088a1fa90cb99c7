"""Train a small convolutional net on scikit-learn's digits, pipelined; prints the loss of every step.

python examples/train_digits.py                                  # needs scikit-learn
torchrun --nproc-per-node 2 examples/train_digits.py
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import torchplace as tp


class Net(nn.Module):
    """Residual convolutions with batch norm, and dropout before the last layer."""

    def __init__(self, width: int = 32, layers: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(layers))
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, 8, 8] of pixels -> [batch, 10] of logits."""
        x = self.stem(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + F.relu(norm(layer(x)))
        return self.head(self.drop(x.mean((2, 3))))


def main() -> None:
    """Train, and print the losses and how much of the rest is recognised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--microbatches", type=int, default=4)
    parser.add_argument("--devices", type=int, default=2, help="of this machine; under torchrun each rank is one")
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    model = Net()
    topology = os.environ.get("TOPOLOGY") or (
        None if "RANK" in os.environ else tp.Topology.local(given.devices, threads=1)
    )
    step = tp.compile(
        model, loss_fn=F.cross_entropy, microbatches=given.microbatches, topology=topology, solver="balanced"
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for i in range(given.steps):
        rows = torch.randint(1500, (64,), generator=torch.Generator().manual_seed(i))
        loss = step(x[rows], y[rows])
        optimizer.step()
        optimizer.zero_grad()
        if os.environ.get("RANK", "0") == "0":
            print(f"step {i:4d}  loss {loss.item():.9g}", flush=True)
    model.eval()
    with torch.no_grad():
        _, logits = step(x[1500:], y[1500:], return_outputs=True)
    if os.environ.get("RANK", "0") == "0":
        print(f"recognised {(logits.argmax(1) == y[1500:]).float().mean().item():.3f} of the rest")


if __name__ == "__main__":
    main()
