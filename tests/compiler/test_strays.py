"""What is left to Python between captured graphs takes parameters that a plan has moved where eager had them.

On the simulated accelerator, which refuses to mix devices, in a process of its own (`tests/runtime/test_accelerator.py`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import simulated

SCRIPT = """
import time
import torch
from torch import nn
from tests import simulated
simulated.load()
import torchplace as tp

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.rand(8))

    def forward(self, x):
        return self.second(self.first(x) * self.scale).relu()

class Tied(nn.Module):
    "Its last layer cannot be captured, and shares its weight with what is."

    def __init__(self):
        super().__init__()
        self.embed, self.body = nn.Linear(8, 8), Block()
        self.register_buffer("calls", torch.zeros(8))

    @torch.compiler.disable
    def head(self, x):
        self.calls.add_(1)
        return x @ self.embed.weight + self.embed.weight.sum() * self.body.second.bias

    def forward(self, x):
        return self.head(self.body(self.embed(x)) + self.calls)

class Looping(nn.Module):
    "Its loop cannot be captured, and takes parameters of layers that will be, later in the call."

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.last = nn.Parameter(torch.rand(8))

    def forward(self, x):
        for block in self.blocks:
            time.sleep(0)
            x = block(x) + self.blocks[2].scale * self.last
            print(end="")
        return x

class Mixture(nn.Module):
    "Its loop is captured for what the router has found, with parameters that a plan may have moved."

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.router = nn.Linear(8, 3)

    def forward(self, x):
        out = torch.zeros_like(x)
        weights, chosen = self.router(x).softmax(-1).max(-1)
        for i, block in enumerate(self.blocks):
            mask = chosen == i
            if mask.any():
                out[mask] = block(x[mask]) * weights[mask, None]
        return out

def train(model, compiled, start):
    found = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(3):
        x = torch.randn(4, 8, generator=torch.Generator().manual_seed(i)).to(start).requires_grad_()
        optimizer.zero_grad()
        output = compiled(x)
        assert output.device == torch.device(start)
        output.square().mean().backward()
        grads = [torch.zeros(()) if p.grad is None else p.grad.cpu().clone() for p in model.parameters()]
        found += [output.detach().cpu(), x.grad.cpu(), *grads]
        optimizer.step()
    with torch.no_grad():
        found.append(compiled(torch.ones(4, 8, device=start)).cpu())
    return found + [t.detach().cpu() for t in model.state_dict().values()]

for kind in (Tied, Looping, Mixture):
    for start in ("cpu", "sim:0"):
        for seed in (1, 2):
            torch.compiler.reset()
            models = []
            for device in ("cpu", start):
                torch.manual_seed(0)
                models.append(kind().to(device))
            plain = nn.Module.__getattr__
            placed = tp.compile(models[1], topology=tp.Topology.local(2), solver="random", seed=seed, cost="roofline")
            pairs = zip(train(models[1], placed, start), train(models[0], models[0], "cpu"), strict=True)
            for found, expected in pairs:
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            assert any(plan.broken for plan in tp.plans(placed)) == (kind is not Mixture)
            assert {str(p.device) for p in models[1].parameters()} >= {"sim:0", "sim:1"}
            assert nn.Module.__getattr__ is plain
            assert simulated.take_faults() == []
"""


@pytest.mark.skipif(simulated.compiler() is None, reason="the simulated device is C++: no compiler here")
def test_what_breaks_a_graph_mixes_no_devices_and_trains_as_eager_does() -> None:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
