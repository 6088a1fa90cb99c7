"""Laws, for modules and placements that nobody thought of.

Whatever a module's graph looks like (branches, joins, several outputs, in-place ops, views, shared parameters, buffers
that forward writes) and wherever its ops are placed: results, gradients and buffers are those of one device to the
bit, and eager's within rounding; every lowered program verifies, runs on devices that share no memory, and is read
back from its own text.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils import _pytree as pytree

from tests.fake_devices import run_on_fake_devices
from tests.switchboard import Setting, Switchboard
from torchplace.compiler.graph import Graph
from torchplace.compiler.program import Program
from torchplace.compiler.verify import verify

ROWS, WIDTH, HALF, LAYERS = 3, 8, 4, 2
Step = tuple[str, int, int, int]
"""Kind, and three numbers: two count back from the latest value to an operand, the third chooses a variant."""


class Dag(nn.Module):
    """Does a list of steps: each takes values made so far, all of them [ROWS, WIDTH], and makes one or more."""

    def __init__(self, steps: Sequence[Step], outputs: Sequence[int], overwrites: bool) -> None:
        """`outputs` choose among the values; `overwrites`: also write to the second input."""
        super().__init__()
        self.steps, self.outputs, self.overwrites = list(steps), list(outputs), overwrites
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))
        self.norm = nn.BatchNorm1d(WIDTH)
        self.scale = nn.Parameter(torch.rand(WIDTH) + 0.5)
        self.tied = nn.Linear(WIDTH, WIDTH, bias=False)
        self.tied.weight = self.layers[0].weight
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("total", torch.ones(()))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
        if self.overwrites:
            y[1:].mul_(0.5)
        values = [x, y]
        for kind, i, j, k in self.steps:
            a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
            values.extend(getattr(self, kind)(a, b, k))
        chosen = [values[-1 - i % len(values)] for i in self.outputs]
        return {"last": values[-1] + 0, "chosen": chosen, "view": chosen[0][:, :HALF], "row": (values[-1][0],)}

    def linear(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [self.layers[k % LAYERS](a)]

    def tie(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [self.tied(a).tanh()]

    def activate(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [[torch.relu, torch.tanh, torch.sigmoid, nn.functional.gelu][k % 4](a)]

    def join(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [[a + b, a * b.sigmoid(), torch.maximum(a, b), a - b * self.scale][k % 4]]

    def attend(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [(a @ b.T).softmax(-1) @ b]

    def fork(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        """Views of one tensor that are values of their own."""
        left, right = torch.cat([a, b], dim=1).chunk(2, dim=1)
        return [left, right] if k % 2 else [right]

    def sort(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        """Two results of one op."""
        values, order = torch.sort(a, dim=1)
        return [values, order.to(a.dtype) / WIDTH]

    def reshape(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        """A tensor that is not contiguous."""
        return [a.reshape(ROWS, 2, HALF).transpose(1, 2).reshape(ROWS, WIDTH), a.t().clone().t()]

    def expand(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [a.mean(0, keepdim=True).expand(ROWS, WIDTH)]

    def write(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        """In-place ops on a fresh tensor, one of them through a view; another view sees them all."""
        fresh = a + b
        seen = fresh.t()
        fresh[:, : 1 + k % HALF].mul_(0.5)
        fresh.add_(a, alpha=0.1)
        return [fresh, seen.t()]

    def make(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        """Tensors that come from nothing."""
        ramp = torch.arange(WIDTH, dtype=torch.float32, device=a.device) / WIDTH
        return [a * ramp, torch.full_like(a, 0.25) + torch.tensor(0.5)]

    def normalize(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [self.norm(a)]

    def remember(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        """Reads a buffer twice, writes it, and reads it again."""
        before = b - self.mean, a - self.mean
        self.mean.mul_(0.9).add_(b.detach().mean(0), alpha=0.1)
        self.count += 1
        return [*before, b + self.mean, a / self.count]

    def replace(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        """Puts another tensor in a buffer's place."""
        self.total = self.total * 0.5 + b.detach().square().mean()
        return [a / self.total]

    def cut(self, a: torch.Tensor, b: torch.Tensor, k: int) -> list[torch.Tensor]:
        return [a.detach() + b]


pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = [name for name, member in vars(Dag).items() if callable(member) and name not in ("__init__", "forward")]
MODES = {"training": (True, True), "warming up": (True, False), "inference": (False, False)}
"""Name -> whether the module is in training mode, and whether gradients are on."""
number = st.integers(0, 11)
steps = st.lists(st.tuples(st.sampled_from(KINDS), number, number, number), min_size=3, max_size=10)
modules = st.tuples(steps, st.lists(number, min_size=1, max_size=3), st.booleans())
plans = st.lists(st.builds(Setting, st.integers(1, 4), st.just("random"), st.integers(0, 99)), min_size=2, max_size=2)
EVERYTHING = [(kind, i % 3, i, i) for i, kind in enumerate(KINDS)]
LATE_READ = [("linear", 0, 0, i) for i in range(4)] + [("remember", 0, 4, 0), ("join", 2, 3, 0)]
"""A buffer is read at the end of a chain; what is written to it is known at the start."""


def results(model: nn.Module, state: dict[str, torch.Tensor], mode: str) -> list[torch.Tensor]:
    """Outputs, gradients and buffers of two calls."""
    training, with_gradients = MODES[mode]
    model.load_state_dict(state)
    model.train(training)
    found: list[torch.Tensor] = []
    for call in range(2):
        generator = torch.Generator().manual_seed(call)
        x, y = torch.randn(2, ROWS, WIDTH, generator=generator)
        x = x.clone().requires_grad_(with_gradients)
        with torch.set_grad_enabled(with_gradients):
            outputs = pytree.tree_leaves(model(x, y))
        found += [t.detach().clone() for t in (*outputs, y)]
        if with_gradients:
            found += gradients(model, x, outputs)
        found += [b.clone() for b in model.buffers()]
    return found


def gradients(model: nn.Module, x: torch.Tensor, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    wanted = [x, *model.parameters()]
    reached = [o for o in outputs if o.requires_grad]
    if not reached:
        return []
    found = torch.autograd.grad([o.cos().sum() for o in reached], wanted, allow_unused=True)
    return [torch.full((1,), -1.0) if g is None else g for g in found]


def close(expected: torch.Tensor, actual: torch.Tensor) -> bool:
    expected, actual = expected.double(), actual.double()
    return expected.shape == actual.shape and bool((actual - expected).norm() <= 1e-5 * expected.norm() + 1e-7)


def check_programs(board: Switchboard) -> None:
    """What was lowered for the current setting is sound, and is read back from its text."""
    for runners in board.ready.values():
        for executable in runners:
            graph, program = executable.graph, executable.program
            verify(program)
            assert Program.parse(str(program)) == program
            assert str(Graph.parse(str(graph))) == str(graph)
            topology = board.setting.request.topology
            assert run_on_fake_devices(program, graph, topology, graph.keys()) == []


@settings(max_examples=20, deadline=None, derandomize=True)
@given(modules, plans, st.sampled_from(sorted(MODES)))
@example((EVERYTHING, [3, 12, 12], False), [Setting(2, "random", 0), Setting(4, "random", 1)], "training")
@example((EVERYTHING, [5, 1, 0], True), [Setting(3, "random", 2), Setting(4, "random", 3)], "warming up")
@example((LATE_READ, [0], False), [Setting(n, "random", seed) for n in (2, 3, 4) for seed in range(3)], "warming up")
def test_any_module_on_any_devices_gives_what_eager_gives(
    module: tuple[list[Step], list[int], bool], plans: list[Setting], mode: str
) -> None:
    torch.manual_seed(0)
    model = Dag(*module)
    state = copy.deepcopy(model.state_dict())
    eager = results(model, state, mode)
    board = Switchboard(model, dynamic=False)
    one_device = results(model, state, mode)
    assert len(eager) == len(one_device)
    assert all(map(close, eager, one_device))
    check_programs(board)
    for setting in plans:
        board.use(setting)
        placed = results(model, state, mode)
        assert len(placed) == len(one_device)
        assert all(map(torch.equal, one_device, placed))
        check_programs(board)
    torch._dynamo.reset()
