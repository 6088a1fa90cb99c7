"""`tensor.requires_grad = True` in the midst of a model, which Dynamo by itself does not trace."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from torch._dynamo.variables.builtin import SetAttrBuiltinVariable
from torch._dynamo.variables.constant import ConstantVariable

_assign = SetAttrBuiltinVariable._call_setattr


def _assigned(self: SetAttrBuiltinVariable, tx: Any, obj: Any, name: Any, value: Any) -> Any:
    """Leave the assignment out where the tensor is one that the model has made.

    Models do it so that reentrant checkpointing finds an input that requires gradients (wav2vec2 and its like).
    Gradients of parameters are the same without; only that tensor's own `.grad`, which nobody can ask for, is not made.
    """
    if obj.is_tensor() and obj.source is None and _is(name, "requires_grad") and _is(value, True):
        return ConstantVariable.create(None)
    return _assign(self, tx, obj, name, value)


def _is(variable: Any, constant: object) -> bool:
    return bool(variable.is_python_constant()) and variable.as_python_constant() == constant


def assignments_left_out() -> AbstractContextManager[Any]:
    """Within, what is compiled is compiled without them."""
    return mock.patch.object(SetAttrBuiltinVariable, "_call_setattr", _assigned)
