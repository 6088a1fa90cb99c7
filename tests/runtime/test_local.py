"""The local runtime: failures are named and stop everybody, nothing hangs, and the next call works."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch
from torch import nn

import torchplace as tp
from torchplace.api import session_of


class Lookup(nn.Module):
    """An embedding that fails on tokens out of range, between layers that other devices hold."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.b = nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, tokens: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).relu() + self.table(tokens)).sum()


GOOD = (torch.arange(4), torch.randn(4, 8))
BAD = (torch.full((4,), 99), torch.randn(4, 8))


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_a_failing_op_is_named_in_the_caller_and_the_next_call_works(devices: int) -> None:
    model = Lookup()
    placed = tp.compile(model, topology=f"local:{devices}", solver="round-robin")
    expected = placed(*GOOD)
    for _ in range(3):
        with pytest.raises(tp.ExecutionError) as raised:
            placed(*BAD)
        message = str(raised.value)
        assert "aten.embedding.default" in message
        assert "cpu:" in message
        assert "test_local.py" in message or "module table" in message
        assert isinstance(raised.value.__cause__, IndexError)
        assert torch.equal(placed(*GOOD), expected)


def test_two_threads_may_call_the_same_model() -> None:
    placed = tp.compile(Lookup(), topology="local:2", solver="round-robin")
    with torch.no_grad():
        expected = placed(*GOOD)
    results: list[torch.Tensor] = []

    def work() -> None:
        with torch.no_grad():
            results.extend(placed(*GOOD) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 80
    assert all(torch.equal(r, expected) for r in results)


def test_the_timeline_has_every_run_and_send_of_the_program() -> None:
    placed = tp.compile(Lookup(), topology="local:2", solver="round-robin")
    with torch.no_grad():
        placed(*GOOD)
    part = session_of(placed).placed[0].parts[0]
    expected = sorted(str(i) for _, i in part.program if type(i).__name__ in ("Run", "Send", "Recv"))
    happened = sorted(str(e.instruction) for e in part.timeline.events)
    assert happened == expected
    assert all(0 <= e.start <= e.end for e in part.timeline.events)


def test_nothing_of_a_call_is_kept_alive() -> None:
    placed = tp.compile(Lookup(), topology="local:2", solver="round-robin")
    x = torch.randn(4, 8, requires_grad=True)
    out = placed(GOOD[0], x)
    refs = [weakref.ref(x), weakref.ref(out)]
    out.backward()
    del x, out
    gc.collect()
    assert [r() for r in refs] == [None, None]


def test_autograd_contexts_are_independent() -> None:
    """Two forwards before a backward, a dropped graph and retain_graph give what eager gives."""
    model = Lookup()
    eager = Lookup()
    eager.load_state_dict(model.state_dict())
    placed = tp.compile(model, topology="local:2", solver="round-robin")
    for m in (eager, placed):
        first, second = m(*GOOD), m(GOOD[0], GOOD[1] * 2)
        m(*GOOD)
        first.backward(retain_graph=True)
        first.backward()
        second.backward()
    for name, parameter in eager.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)


def test_double_backward_is_a_clear_error() -> None:
    placed = tp.compile(Lookup(), topology="local:2", solver="round-robin")
    x = torch.randn(4, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(placed(GOOD[0], x) ** 2, x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        gradient.sum().backward()


def test_random_ops_follow_the_seed_on_any_placement() -> None:
    def outputs(devices: int, solver: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.5))
        placed = tp.compile(model, topology=f"local:{devices}", solver=solver)
        x = torch.ones(4, 8)
        torch.manual_seed(1)
        first, second = placed(x), placed(x)
        first.sum().backward()
        assert not torch.equal(first, second)
        return [first.detach(), second.detach(), model[0].weight.grad]

    reference = outputs(1, "single")
    for devices, solver in ((2, "round-robin"), (3, "random")):
        assert all(torch.equal(a, b) for a, b in zip(outputs(devices, solver), reference, strict=True))


def test_inference_mode_and_dispatch_modes_work() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    placed = tp.compile(Lookup(), topology="local:2", solver="round-robin")
    with torch.no_grad():
        expected = placed(*GOOD)
        with FlopCounterMode(display=False) as counter:
            assert torch.equal(placed(*GOOD), expected)
    assert counter.get_total_flops() > 0
    with torch.inference_mode():
        assert torch.equal(placed(*GOOD), expected)
