"""Dynamo's settings are ours while it compiles for us, and as they were at any other time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch._dynamo import config

from torchplace.compiler.compiled import compile_function
from torchplace.compiler.settings import WANTED, listen

pytestmark = pytest.mark.usefixtures("forgotten")

Seen = list[dict[str, Any]]


def now() -> dict[str, Any]:
    return {name: getattr(config, name) for name in WANTED}


def noting(seen: Seen) -> Callable[..., Any]:
    def backend(module: fx.GraphModule, inputs: Any) -> Any:
        seen.append(now())
        return module.forward

    return backend


def test_they_are_set_for_a_compilation_and_set_back() -> None:
    before, seen = now(), Seen()
    assert before != dict(WANTED)
    function = compile_function(lambda x: x + 1, noting(seen))
    for rows in (2, 2, 3):
        function(torch.ones(rows))
        assert now() == before
    assert seen == [dict(WANTED)] * 2


def test_they_are_set_back_after_an_error_and_after_a_reset() -> None:
    before, seen = now(), Seen()

    def failing(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no")

    function = compile_function(failing, noting(seen))
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            function(torch.ones(2))
        assert now() == before
        torch.compiler.reset()
    compile_function(lambda x: x + 1, noting(seen))(torch.ones(2))
    assert (seen, now()) == ([dict(WANTED)], before)


def test_what_others_compile_has_their_settings() -> None:
    before, seen = now(), Seen()
    compile_function(lambda x: x + 1, noting(Seen()))(torch.ones(2))
    torch.compile(nn.Linear(2, 2), backend=noting(seen))(torch.ones(2, 2))
    assert seen == [before]


def test_they_are_set_for_the_backend_of_torch_compile_and_for_no_other() -> None:
    class Checked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if (x > 3).any():
                raise ValueError("too much")
            return x[x > 0] + x.sum().item()

    listen()  # as the import has done; the reset before this test has undone it
    x = torch.tensor([1.0, -2.0, 3.0])
    ours = torch.compile(Checked(), backend="torchplace", options={"topology": "local:2"}, fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(ours(x), Checked()(x))
    seen, before = Seen(), now()
    assert before != dict(WANTED)
    torch.compile(nn.ReLU(), backend=noting(seen))(x)
    assert seen == [before]
