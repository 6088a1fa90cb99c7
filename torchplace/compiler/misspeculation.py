"""Misspeculation: a graph was tried that expects something which is not so in a call, and the call begins anew."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from torchplace.compiler.findings import Outcomes
from torchplace.compiler.foresight import expected_now, is_vain
from torchplace.compiler.speculation import SAYS
from torchplace.errors import ExecutionError, TorchplaceError


class Misspeculation(TorchplaceError):  # noqa: N818  # no fault
    """A graph has failed that expected something, which may not be so in this call.

    Attributes:
        outcomes: what it expected.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        """Of a graph that has failed, or would fail, for it has done so in this call."""
        super().__init__(f"expected in vain: {', '.join(f'{line} finds {value}' for line, value in outcomes)}")
        self.outcomes = outcomes

    @property
    def was_checked(self) -> bool:
        """Whether it is known not to be so."""
        return any(said in str(self.__cause__) for said in (SAYS, "Runtime assertion failed"))


def require_new() -> None:
    """Check that no graph was tried in this call that expects what the one expects that is being captured.

    Raises:
        Misspeculation: one was.
    """
    outcomes = expected_now()
    if is_vain(outcomes):
        raise Misspeculation(outcomes)


def speculating(run: Callable[..., Any], written: Sequence[int]) -> Callable[..., Any]:
    """What runs the graph that is being captured; if that expects something and fails, what it has written is set back.

    Args:
        run: runs it, and raises `Misspeculation` from now on where it expected something, and has failed.
        written: which of its inputs it writes.
    """
    outcomes = expected_now()
    if not outcomes:
        return run

    @functools.wraps(run)
    def trying(*args: Any) -> Any:
        held = [(args[i].detach(), args[i].detach().clone()) for i in written]
        try:
            return run(*args)
        except ExecutionError as error:
            for tensor, before in held:
                tensor.copy_(before)
            raise Misspeculation(outcomes) from error

    return trying
