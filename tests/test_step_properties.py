"""Laws of steps, for modules, placements and schedules that nobody thought of.

Whatever a module's graph looks like, wherever its ops are, in whatever order devices do micro-batches, and however
many there are: losses, gradients, buffers and inputs that are written to are those of one device to the bit, and
eager's within rounding; every program verifies, runs on devices that share no memory, and is read back from its text.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils import _pytree as pytree

from tests.fake_devices import run_on_fake_devices
from tests.stepping import StepBoard, Way, cut, differences, eager_step, state
from tests.test_properties import EVERYTHING, LATE_READ, ROWS, WIDTH, Dag, Step
from torchplace.compiler.program import Program
from torchplace.compiler.verify import verify
from torchplace.placement.pipelining import CHOICES
from torchplace.runtime.session import Placed

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = 2
"""So many micro-batches run on fake devices, which take their time; more do nothing that two do not."""
BRANCHES = [(kind, i, 2 * i + 1, i) for i, kind in enumerate(["linear", "tie", "fork", "normalize", "join"] * 3)]
MODULES: dict[str, tuple[list[Step], list[int], bool]] = {
    "everything": ([*EVERYTHING, ("linear", 0, 0, 0), ("join", 0, 7, 0)], [3, 12, 12], False),
    "everything, back to front": ([*EVERYTHING[::-1], ("linear", 0, 0, 0)], [5, 1, 0], True),
    "branches": ([*BRANCHES, ("linear", 0, 0, 1)], [2, 9], True),
    "a late read": (LATE_READ, [0], False),
}
"""Name -> steps, outputs, and whether an input is written to. All end in something that requires gradients."""


def loss_fn(output: dict[str, Any], target: torch.Tensor) -> torch.Tensor:
    """Two losses, added: of the last value, and of all that comes out."""
    return (output["last"] - target).square().mean() + sum(o.cos().mean() for o in pytree.tree_leaves(output))


def loss_of(x: torch.Tensor, y: torch.Tensor, target: torch.Tensor, model: nn.Module, rows: slice) -> torch.Tensor:
    """Of some rows."""
    return loss_fn(model(x[rows], y[rows]), target[rows])


class Case:
    """A module with its step, captured once."""

    def __init__(self, steps: Sequence[Step], outputs: Sequence[int], overwrites: bool) -> None:
        torch.manual_seed(0)
        self.model = Dag(steps, outputs, overwrites)
        self.before = copy.deepcopy(self.model.state_dict())
        self.board = StepBoard(self.model, loss_fn=loss_fn, dynamic=False)
        self.results(1, eager=False)

    def results(self, microbatches: int, eager: bool) -> dict[str, torch.Tensor]:
        """What two steps leave behind."""
        self.model.load_state_dict(self.before)
        self.model.zero_grad()
        found = {}
        for call in range(2):
            generator = torch.Generator().manual_seed(10 * microbatches + call)
            x, y, target = torch.randn(3, microbatches * ROWS, WIDTH, generator=generator)
            if eager:
                loss = eager_step(self.model, functools.partial(loss_of, x, y, target), cut(len(x), microbatches))
            else:
                loss = self.board.step(x, y, target=target)
            found |= {f"loss {call}": loss, f"second input {call}": y}
        return found | state(self.model)


@functools.cache
def case(name: str) -> Case:
    return Case(*MODULES[name])


@functools.cache
def expected(name: str, microbatches: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Eager's results, and those of one device."""
    of = case(name)
    of.board.use(Way(schedule="gpipe"), microbatches)
    return of.results(microbatches, eager=True), of.results(microbatches, eager=False)


def check(placed: Placed) -> None:
    """What was lowered is sound, and is read back from its text."""
    for executable in placed.parts:
        program, graph = executable.program, executable.graph
        verify(program)
        assert Program.parse(str(program)) == program
        if program.microbatches <= FEW:
            assert run_on_fake_devices(program, graph, executable.runtime.topology, graph.keys()) == []


ways = st.builds(Way, st.integers(1, 4), st.just("random"), st.integers(0, 99), st.sampled_from(CHOICES))


@settings(max_examples=20)
@given(st.sampled_from(sorted(MODULES)), ways, st.integers(1, 8))
@example("a late read", Way(4, "random", 0, "interleaved"), 4)
@example("everything, back to front", Way(2, "random", 1, "zero-bubble"), 8)
def test_any_step_on_any_devices_in_any_order_gives_what_eager_gives(name: str, way: Way, microbatches: int) -> None:
    eager, one_device = expected(name, microbatches)
    assert differences(eager, one_device) == []
    of = case(name)
    for placed in of.board.use(way, microbatches):
        check(placed)
    assert differences(one_device, of.results(microbatches, eager=False), rtol=0) == []
