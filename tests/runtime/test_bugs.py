"""Bugs that were: each test says what went wrong, and why."""

from __future__ import annotations

import gc
import threading

import torch
from torch import nn

import torchplace as tp
from torchplace import Topology
from torchplace.compiler.dry import capture_dry
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.evaluate import Evaluator
from torchplace.runtime.local import LocalRuntime


def test_workers_record_no_autograd() -> None:
    """`_InferenceMode(False)` switched autograd on in workers: every op was recorded, and T5 failed under `no_grad`."""
    layer, x = nn.Linear(4, 4), torch.ones(2, 4)
    (captured,) = capture_dry(layer, (x,), {}, training=False)
    topology = Topology.local(2)
    placement = {op.name: f"cpu:{i % 2}" for i, op in enumerate(captured.graph.ops)}
    (program,) = Evaluator(captured, topology, Roofline(), {}).programs(placement)
    assert all(program.instructions.values())  # both devices work, in threads of their own
    given = [layer.get_parameter(v.path) if v.path else x for v in captured.graph.inputs]
    (result,) = LocalRuntime(topology).prepare(program, captured.graph)(given)
    assert not result.requires_grad


def test_threads_end_with_the_runtime_that_they_work_for() -> None:
    """Workers waited for jobs for ever, also when their runtime was gone: every compiled model left threads behind."""
    before = set(threading.enumerate())
    model = tp.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), topology="local:3", solver="random")
    model(torch.ones(2, 4)).sum().backward()
    started = [t for t in threading.enumerate() if t not in before and t.name.startswith("torchplace")]
    assert started
    del model
    torch._dynamo.reset()  # it keeps what it captured until it is told not to
    gc.collect()
    for thread in started:
        thread.join(timeout=30)
        assert not thread.is_alive()
