"""What transformers does once, in the midst of a first call, or not at all where it is compiled: it is to do it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._dynamo.variables import ConstantVariable

from torchplace.compiler.foreseen import is_foreseeable

_ONCE = (("transformers.utils.output_capturing", "maybe_install_capturing_hooks"),)
"""(Module, function) of what has an effect on a model once, before anything looks at it, and returns nothing."""

_MASKLESS = ("longt5", "pop2piano", "switch_transformers", "udop")
"""Models that make the mask of all tokens themselves, unless they are compiled, and that cannot do without one."""


def prepare() -> None:
    """Prepare what is loaded of transformers.

    Some models ask whether they are compiled before they make a mask: they are told that they are not.

    The hooks that record hidden states, attentions and router logits are installed under a lock, which Dynamo cannot
    trace: the graph would break there, and a step, which must be one graph, be refused. A function that is marked is
    called where Dynamo comes to it, and what is traced behind it has its effect. Eager does not look at the mark.
    """
    for room, name in _ONCE:
        function = getattr(sys.modules.get(room), name, None)  # versions before 5 have none
        if function is not None:
            torch.compiler.assume_constant_result(function)  # type: ignore[no-untyped-call]
    for name in _MASKLESS:
        module = sys.modules.get(f"transformers.models.{name}.modeling_{name}")
        if module is not None:
            module.__dict__["is_torchdynamo_compiling"] = _not_compiling


def _not_compiling() -> bool:
    return False


def rules() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """Function of transformers -> the rule by which Dynamo traces it.

    Whether a mask leaves tokens out, it looks up unless it is traced; where it finds none, attention runs without one.
    In a graph that value can be looked up, too (`foreseen`), so the graph does as eager does.
    """
    function = getattr(sys.modules.get("transformers.utils.import_utils"), "is_tracing", None)
    return {} if function is None else {function: _is_tracing}


def _is_tracing(_: Any, tx: Any, tensor: Any = None) -> Any:
    """What is said where masks are made; elsewhere, who asks would only warn of values."""
    of_masks = tensor is not None and tx.f_globals.get("__name__") in _MASKS
    return ConstantVariable.create(not (of_masks and is_foreseeable(tx, tensor)))


_MASKS = ("transformers.masking_utils", "transformers.modeling_attn_mask_utils")
