"""Frames on which Dynamo, or AOTAutograd, fails by a fault of its own, in the midst of a call: they are left to eager.

Where nothing of a call was done yet, all of it can be left (`compiled`). Behind a graph break that is too late; then it
is as with what Dynamo knows that it cannot capture: the frame runs as it is, and what it calls is captured by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from torch._dynamo import convert_frame
from torch._dynamo.exc import BackendCompilerFailed, InternalTorchDynamoError, TorchDynamoException, Unsupported
from torch._dynamo.utils import counters

from torchplace.errors import TorchplaceError

_FAULTS = (BackendCompilerFailed, InternalTorchDynamoError)

_trace_frame = convert_frame.trace_frame


def left_where_they_fail(is_late: Callable[[], bool]) -> AbstractContextManager[Any]:
    """Within, frames that fail are left to eager.

    Args:
        is_late: says whether a call that is under way cannot begin anew.
    """

    def traced(*args: Any, **kwargs: Any) -> Any:
        try:
            return _trace_frame(*args, **kwargs)
        except Exception as error:
            if not (_is_fault(error) and is_late()):
                raise
            said = f"{type(error).__name__}: {error}".strip()
            counters["unimplemented"][said] += 1
            raise Unsupported(said) from error

    return mock.patch.object(convert_frame, "trace_frame", traced)


def _is_fault(error: Exception) -> bool:
    """Whether it is neither what Dynamo says of a model, nor what we say of it."""
    inner = getattr(error, "inner_exception", None)
    ours = isinstance(error, TorchplaceError) or isinstance(inner, TorchplaceError)
    return not ours and (isinstance(error, _FAULTS) or not isinstance(error, (TorchDynamoException, MemoryError)))
