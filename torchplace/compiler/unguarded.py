"""What would have to look at a value while it is traced breaks the graph, wherever Dynamo comes upon it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from torch._dynamo.exc import unimplemented
from torch._dynamo.symbolic_convert import InstructionTranslatorBase
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

_call = InstructionTranslatorBase.call_function


def looks_break_graphs() -> AbstractContextManager[Any]:
    """Within, Dynamo breaks the graph where a size that hangs on values would have to be known.

    By itself it does so for ops; what it does in other ways (`tolist` of as many numbers as there happen to be) ended
    the whole call with an error.
    """
    return mock.patch.object(InstructionTranslatorBase, "call_function", _called)


def _called(self: Any, function: Any, args: Any, kwargs: Any) -> None:
    try:
        _call(self, function, args, kwargs)
    except GuardOnDataDependentSymNode as error:
        unimplemented(
            gb_type="a size that hangs on values would have to be known",
            context=next(iter(str(error).splitlines()), ""),
            explanation="How the call goes on hangs on it.",
            hints=[],
            from_exc=error,
        )
