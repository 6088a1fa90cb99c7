from __future__ import annotations

import queue

import pytest
import torch

import torchplace as tp
from tests.compiler.graphs import Builder
from tests.placement.graphs import machine
from tests.zoo import ZOO, loss
from torchplace.api import session_of
from torchplace.compiler.lower import lower
from torchplace.errors import ExecutionError
from torchplace.runtime.isolated import IsolatedRuntime, Meeting
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.memory_meter import isolate


def test_a_send_waits_for_its_receive() -> None:
    meeting = Meeting()
    with pytest.raises(queue.Empty):
        meeting.receive()
    for _ in range(2):
        with pytest.raises(queue.Empty):
            meeting.send("first")
    assert meeting.receive() == "first"
    meeting.send("first")
    with pytest.raises(queue.Empty):
        meeting.send("second")
    assert meeting.receive() == "second"


@pytest.mark.parametrize("seed", [0, 1])
def test_results_are_what_they_are_elsewhere(seed: int) -> None:
    """And no program waits for ever where a send waits for its receive."""
    [entry] = [e for e in ZOO if e.name == "two-tower"]
    args, _ = entry.inputs(3)
    found = []
    for isolated in (False, True):
        model = tp.compile(entry.build(), topology="local:3", solver="random", seed=seed, cost="roofline")
        if isolated:
            isolate(session_of(model))
        output = model(*args)
        loss(output).backward()
        found.append([output, *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_is_received_is_a_copy() -> None:
    b = Builder()
    y = b.op("aten.neg.default", b.input("x", 4), name="y")
    b.returns(y, b.op("aten.alias.default", y, name="z", base=y))
    topology = machine([1 << 20] * 2)
    program = lower(b.graph, {"y": "d0", "z": "d1"}, topology.device_names)
    results = {}
    for kind in (LocalRuntime, IsolatedRuntime):
        y_, z = kind(topology).prepare(program, b.graph)([torch.ones(4)])
        results[kind] = y_.untyped_storage().data_ptr() == z.untyped_storage().data_ptr()
        assert torch.equal(y_, z)
    assert results == {LocalRuntime: True, IsolatedRuntime: False}


def test_a_program_that_cannot_go_on_is_an_error() -> None:
    b = Builder()
    b.returns(b.op("aten.neg.default", b.input("x", 4), name="y"))
    topology = machine([1 << 20] * 2)
    program = lower(b.graph, {"y": "d1"}, topology.device_names, {"x": "d0"})
    executable = IsolatedRuntime(topology).prepare(program, b.graph)
    executable.devices["d0"].steps.clear()
    executable.devices["d0"].steps.append(lambda call, env: (_ for _ in ()).throw(queue.Empty))
    with pytest.raises(ExecutionError, match="no device can go on"):
        executable([torch.ones(4)])
