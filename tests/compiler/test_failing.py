"""Frames on which Dynamo fails by its own fault are left to eager, once a call cannot begin anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo import convert_frame
from torch._dynamo.exc import BackendCompilerFailed, Unsupported

import torchplace as tp
from torchplace.compiler import failing
from torchplace.errors import InfeasibleError

pytestmark = pytest.mark.usefixtures("forgotten")
OURS = BackendCompilerFailed(lambda: None, InfeasibleError("too large"), None)


@pytest.mark.parametrize(
    ("fault", "is_late", "raised"),
    [
        (IndexError("tuple index out of range"), True, Unsupported),
        (BackendCompilerFailed(lambda: None, IndexError("no"), None), True, Unsupported),
        (IndexError("tuple index out of range"), False, IndexError),
        (OURS, True, BackendCompilerFailed),
        (InfeasibleError("too large"), True, InfeasibleError),
        (Unsupported("a thing"), True, Unsupported),
    ],
)
def test_a_fault_is_what_it_was_unless_it_is_late(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, is_late: bool, raised: type[Exception]
) -> None:
    def fails(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(failing, "_trace_frame", fails)
    with failing.left_where_they_fail(lambda: is_late):
        trace: Any = convert_frame.trace_frame
        with pytest.raises(raised):
            trace()


class Broken(nn.Module):
    """Two layers, between which the graph breaks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        torch._dynamo.graph_break()
        return self.b(x).tanh()


@pytest.mark.filterwarnings("ignore:.*cannot be captured")
@pytest.mark.parametrize("fails_at", ["forward", "resume"])
def test_the_call_goes_on_in_eager(monkeypatch: pytest.MonkeyPatch, fails_at: str) -> None:
    trace, failed = failing._trace_frame, []

    def fails(code: Any, *args: Any, **kwargs: Any) -> Any:
        if fails_at in code.co_name:
            failed.append(code.co_name)
            raise IndexError("tuple index out of range")
        return trace(code, *args, **kwargs)

    monkeypatch.setattr(failing, "_trace_frame", fails)
    model = Broken()
    placed = tp.compile(model, topology="local:2", solver="random")
    x = torch.randn(2, 4)
    for _ in range(2):
        torch.testing.assert_close(placed(x), Broken()(x))
    assert failed
    assert len(tp.plans(placed)) == (fails_at == "resume")
