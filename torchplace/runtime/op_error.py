"""The error of an op that has failed."""

from __future__ import annotations

from torchplace.compiler.acts import CHECK
from torchplace.compiler.checks import raised
from torchplace.compiler.graph import Op
from torchplace.errors import ExecutionError


def op_error(op: Op | None, where: str, error: BaseException) -> ExecutionError:
    """The error that a caller sees when an op fails: of a check of values, one that the model would raise, too."""
    cause = f"{type(error).__name__}: {error}"
    if op is None:
        return ExecutionError(f"a segment failed on device {where}: {cause}")
    expected = raised(str(op.args[1])) if op.target == CHECK else None
    origin = ", ".join(filter(None, (op.module and f"module {op.module}", op.source)))
    said = f"op {op.name!r} ({op.target}{origin and '; ' + origin}) failed on device {where}"
    return ExecutionError(f"{said}: {cause}") if expected is None else _of_both(expected)(f"{said}: {op.args[1]}")


def _of_both(expected: type[Exception]) -> type[ExecutionError]:
    """The class of an error that is an `ExecutionError` and what the model itself would raise."""
    return type("ExecutionError", (ExecutionError, expected), {"__str__": Exception.__str__, "__module__": __name__})
