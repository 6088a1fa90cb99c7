"""Failed captures: Dynamo's errors as ours, in a line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch._dynamo.exc import TorchDynamoException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from torchplace.errors import CaptureError, TorchplaceError

_FAILURES = (TorchDynamoException, GuardOnDataDependentSymNode)
"""What Dynamo raises where it cannot capture."""


def is_of_model(error: CaptureError) -> bool:
    """Whether it is something in the model that Dynamo could not capture, which eager may well do."""
    return isinstance(error.__cause__, _FAILURES)


def raising_ours(compiled: Callable[..., Any], name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call what is compiled; our errors are raised as they are, and Dynamo's as `CaptureError`."""
    try:
        return compiled(*args, **kwargs)
    except _FAILURES as error:
        inner = getattr(error, "inner_exception", None)
        if isinstance(inner, TorchplaceError):
            raise inner from None
        raise CaptureError(f"cannot capture {name!r}: {explain(error)}") from error


_FAKE_CALL = re.compile(
    r"fake tensors: call_\w+ (?:<(?:built-in )?(?:function|method) )?(?P<name>[\w.]+).*?\(\*\((?P<given>.*?)\): "
    r"got (?P<kind>\w+)\((?P<quote>['\"])(?P<text>.*?)(?P=quote)\)",
    re.DOTALL,
)
"""How Dynamo says what an op has raised when it was tried on the sizes that it would get."""


def explain(error: Exception) -> str:
    """What Dynamo says of a failed capture, in a line: what, why, what was raised, and the user's line if known."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("backend=") and lines[0].endswith("raised:"):  # it was ours that did
        lines = lines[1:]
    said = lines[:1] or [type(error).__name__]
    for start in ("Explanation: ", "Developer debug context: raised exception "):
        said += [line.removeprefix(start) for line in lines if line.startswith(start)][:1]
    if call := _FAKE_CALL.search(str(error)):
        sizes = ", ".join(re.findall(r"size=(\([^)]*\))", call["given"]))
        said = [f"{call['name']} of tensors of sizes {sizes}", call["kind"], call["text"]]
    where = [f" ({line})" for line in lines if line.startswith("File ")]
    return ": ".join(said) + "".join(where[-1:])
