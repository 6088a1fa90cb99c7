"""The accelerator path, on a simulated device of torch's PrivateUse1 kind that refuses to mix devices.

It runs in a process of its own: once the device is registered, torch has an accelerator for the rest of the process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import simulated

SCRIPT = """
import sys
import torch
from torch.utils import _pytree as pytree
from tests import simulated
simulated.load()
import torchplace as tp
from tests.zoo import ZOO, loss

def to(tree, device):
    return pytree.tree_map_only(torch.Tensor, lambda t: t.to(device), tree)

def train(entry, model, start):
    found = {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model.train()
    for step, batch in enumerate((3, 3, 5)):
        args, kwargs = to(entry.inputs(batch), start)
        optimizer.zero_grad()
        output = model(*args, **kwargs)
        assert {t.device for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor)} == {torch.device(start)}
        loss(to(output, "cpu")).backward()
        optimizer.step()
        for name, p in model.named_parameters():
            assert p.grad.device == p.device, name
            found[f"{step} {name}"] = p.grad.cpu()
    for name, t in model.state_dict().items():
        found[name] = t.cpu().clone()
    model.eval()
    with torch.no_grad():
        args, kwargs = to(entry.inputs(3), start)
        for i, t in enumerate(pytree.tree_leaves(to(model(*args, **kwargs), "cpu"))):
            found[f"eval {i}"] = t
    return found

name, start, devices, solver = sys.argv[1:]
entry = next(e for e in ZOO if e.name == name)
expected = train(entry, entry.build(), "cpu")
model = entry.build().to(start)
placed = tp.compile(model, topology=tp.Topology.local(int(devices)), solver=solver, seed=3)
actual = train(entry, placed, start)
assert list(expected) == list(actual)
largest = max(t.norm() for t in expected.values() if t.is_floating_point())
for key, t in expected.items():
    difference = (actual[key].double() - t.double()).norm()
    assert difference <= max(1e-5 * t.double().norm(), 1e-9 * largest), (key, difference, t.norm())
plan = tp.plans(placed)[0]
tensors = dict(model.named_parameters())
assert all(str(tensors[n].device) == d for n, d in plan.parameter_devices().items() if n in tensors)
assert len(plan.devices_used) == int(devices)
assert simulated.take_faults() == []
"""


@pytest.mark.skipif(simulated.compiler() is None, reason="the simulated device is C++: no compiler here")
@pytest.mark.parametrize(
    ("name", "start", "devices", "solver"),
    [
        ("two-tower", "cpu", 3, "random"),
        ("two-tower", "sim:0", 2, "balanced"),
        ("unet", "sim:0", 3, "random"),
        ("gpt2", "cpu", 2, "balanced"),
    ],
)
def test_training_on_accelerators_gives_what_eager_gives(name: str, start: str, devices: int, solver: str) -> None:
    command = [sys.executable, "-c", SCRIPT, name, start, str(devices), solver]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
