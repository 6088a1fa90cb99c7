"""Steps of models that people use, through the public API: equal to eager, and sound on devices that share no memory."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

import torchplace as tp
from tests import zoo
from tests.fake_devices import run_on_fake_devices
from tests.stepping import StepBoard, Way, cut, differences, eager_step, state, twins
from tests.zoo import ZOO
from torchplace.api import session_of
from torchplace.compiler.verify import verify

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = 5
NAMES = ("gpt2", "t5", "vit", "resnet50", "llama", "mixtral")
MODELS = {entry.name: entry for entry in ZOO if entry.name in NAMES}
WAYS = [Way(2, "balanced", 0, "1f1b"), Way(3, "random", 1, "synthesised"), Way(2, "random", 2, "auto")]


def ways(name: str) -> list[Way]:
    """Two of them, others for the next model."""
    begin = NAMES.index(name)
    return [WAYS[(begin + i) % len(WAYS)] for i in range(2)]


def labelled(name: str, rows: int) -> dict[str, Any]:
    """Inputs by keyword, labels among them: these models make their own loss."""
    args, kwargs = MODELS[name].inputs(rows)
    images = name in ("vit", "resnet50")
    kwargs = dict(kwargs) | ({"pixel_values" if images else "input_ids": args[0]} if args else {})
    if images:
        return kwargs | {"labels": torch.arange(rows) % 5}
    return kwargs | {"labels": zoo.tokens(rows, 7) if name == "t5" else zoo.tokens(rows)}


def rows_of(inputs: dict[str, Any], where: slice) -> dict[str, Any]:
    return {name: tensor[where] for name, tensor in inputs.items()}


def eager(model: nn.Module, inputs: dict[str, Any], microbatches: int) -> dict[str, torch.Tensor]:
    loss = eager_step(model, lambda m, s: m(**rows_of(inputs, s)).loss, cut(ROWS, microbatches))
    return {"loss": loss, **state(model)}


@functools.cache
def build(name: str) -> nn.Module:
    """A model that has been called once: at its first call Mixtral installs hooks, under a lock, which breaks a graph."""
    model = MODELS[name].build().eval()
    with torch.no_grad():
        model(**labelled(name, 1))
    return model.train()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_what_eager_does(name: str) -> None:
    """Captured once, for micro-batches of one row, and placed anew."""
    inputs = labelled(name, 3)
    model, reference = twins(build(name))
    loss = eager_step(reference, lambda m, s: m(**rows_of(inputs, s)).loss, cut(3, 3))
    expected = {"loss": loss, **state(reference)}
    before = {n: b.clone() for n, b in model.named_buffers()}
    board = StepBoard(model)
    board.step.splitter.microbatches = 3
    board.step(**inputs)
    for way in ways(name):
        model.zero_grad()
        for n, b in model.named_buffers():
            b.copy_(before[n])
        for placed in board.use(way, 3):
            [executable] = placed.parts
            program, graph = executable.program, executable.graph
            verify(program)
            assert run_on_fake_devices(program, graph, executable.runtime.topology, graph.keys()) == []
        found = {"loss": board.step(**inputs), **state(model)}
        assert differences(expected, found, rtol=1e-4) == [], str(way)


@pytest.mark.parametrize(("name", "microbatches"), [("gpt2", 2), ("vit", 3)])
def test_the_public_api_with_an_uneven_last_microbatch(name: str, microbatches: int) -> None:
    inputs = labelled(name, ROWS)
    model, reference = twins(build(name))
    expected = eager(reference, inputs, microbatches)
    step = tp.compile(model, microbatches=microbatches, topology="local:2", solver="balanced")
    assert differences(expected, {"loss": step(**inputs), **state(model)}, rtol=1e-4) == []
    assert all(len(placed.parts) == 1 for placed in session_of(step).placed)
