"""Functions of torch that cannot be traced, and what Dynamo traces in their place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import FunctionType
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch._dynamo import trace_rules
from torch._dynamo.exc import TorchRuntimeError
from torch._dynamo.variables.tensor import TensorVariable
from torch._dynamo.variables.torch import TorchInGraphFunctionVariable
from torch.autograd import functional
from torch.nn.modules import transformer
from torch.nn.utils import rnn

from torchplace.compiler import hugging_face, packed, tensor_sizes
from torchplace.compiler.batch_norms import averaging_batch_norm, is_averaging
from torchplace.compiler.covariances import corrcoef, cov
from torchplace.compiler.ctc import ctc_loss
from torchplace.compiler.traced import traced_call


@functools.cache
def substitute() -> None:
    """Tell Dynamo of those that it knows nothing of, once; eager does as ever."""
    detect = getattr(transformer, "_detect_is_causal_mask", None)
    if detect is not None:
        torch.compiler.substitute_in_graph(detect, can_constant_fold_through=False)(_is_said_to_be_causal)


def _is_said_to_be_causal(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    """Whether the caller says that a mask is a causal one.

    `nn.Transformer` looks into the mask otherwise, to take a faster kernel, which would break the graph. The mask is
    applied in any case.
    """
    return is_causal is True


def _settings_kept(*_: Any, **__: Any) -> AbstractContextManager[None]:
    """In place of cuDNN's settings for a part of a model: its ops run wherever they are placed, as everywhere else."""
    return nullcontext()


def _masked_select(input: torch.Tensor, mask: torch.Tensor, **out: torch.Tensor) -> torch.Tensor:
    """What `torch.masked_select` gives, of equal shapes: torch holds the number to the elements of an unequal input."""
    result: torch.Tensor = torch.ops.aten.masked_select(*torch.ops.aten.broadcast_tensors([input, mask]), **out)
    return result


def _to_follow(function: Any) -> Callable[..., Any]:
    """A function of Python's like another: Dynamo has a rule for that one, and follows this."""
    return FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)


_INSTEAD: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.ctc_loss: ctc_loss,
    torch.cov: cov,
    torch.corrcoef: corrcoef,
    torch.masked_select: _masked_select,
    torch.backends.cudnn.flags: _settings_kept,
    **{f: _to_follow(f) for f in (functional.vjp, functional.jacobian, functional.hessian, F.gaussian_nll_loss)},
}
"""Those that Dynamo has rules of its own for."""


_METHODS: Sequence[Callable[..., Any]] = (torch.cov, torch.corrcoef, torch.masked_select)
"""Those that are methods of tensors, too."""

_SKIPPED: Mapping[Callable[..., Any], Callable[..., Any]] = {
    rnn.pack_padded_sequence: packed.pack_padded_sequence,
    rnn.pack_sequence: packed.pack_sequence,
    rnn.pad_packed_sequence: packed.pad_packed_sequence,
    rnn.pad_sequence: packed.pad_sequence,
}
"""Those that Dynamo skips, as it does all of their file."""


@contextmanager
def substituted() -> Iterator[None]:
    """Within, Dynamo traces what we have in place of those that it skips, or has rules of its own for."""
    instead = {**_INSTEAD, **_SKIPPED}
    handlers: dict[Callable[..., Any], Callable[..., Any]] = {F.batch_norm: _batch_norm, **tensor_sizes.rules()}
    handlers.update((function, functools.partial(_inline, ours)) for function, ours in instead.items())
    handlers.update((function, functools.partial(_refuse, function.__name__)) for function in _REFUSED)
    asking = hugging_face.rules()
    handlers.update(asking)
    rules = dict.fromkeys((*_SKIPPED, *asking), TorchInGraphFunctionVariable)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(TorchInGraphFunctionVariable._get_handlers(), handlers))
        stack.enter_context(mock.patch.dict(trace_rules.get_torch_obj_rule_map(), rules))
        for function in _METHODS:
            method = functools.partialmethod(_method, _INSTEAD[function])
            stack.enter_context(mock.patch.object(TensorVariable, f"method_{function.__name__}", method, create=True))
        yield


def _inline(ours: Callable[..., Any], _: Any, tx: Any, *args: Any, **kwargs: Any) -> Any:
    return traced_call(tx, ours, args, kwargs)


def _method(self: Any, ours: Callable[..., Any], tx: Any, *args: Any, **kwargs: Any) -> Any:
    return traced_call(tx, ours, [self, *args], kwargs)


def _batch_norm(_: Any, tx: Any, *args: Any, **kwargs: Any) -> Any:
    """What we have in its place, where that is needed; None for what Dynamo does by itself."""
    return traced_call(tx, averaging_batch_norm, args, kwargs) if is_averaging(args, kwargs) else None


_REFUSED: Sequence[Callable[..., Any]] = (functional.jvp, functional.vhp, functional.hvp)
"""Those that derive twice what Dynamo would have captured in parts by then, which have one derivative."""


def _refuse(name: str, *_: Any, **__: Any) -> Any:
    raise TorchRuntimeError(f"torch.autograd.functional.{name} derives twice what is captured in parts")
