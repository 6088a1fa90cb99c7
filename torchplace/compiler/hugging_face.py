"""What transformers does once, in the midst of a first call: Dynamo is told to let it happen while it traces."""

from __future__ import annotations

import sys

import torch

_ONCE = (("transformers.utils.output_capturing", "maybe_install_capturing_hooks"),)
"""(Module, function) of what has an effect on a model once, before anything looks at it, and returns nothing."""


def prepare() -> None:
    """Mark these functions, where transformers is there.

    The hooks that record hidden states, attentions and router logits are installed under a lock, which Dynamo cannot
    trace: the graph would break there, and a step, which must be one graph, be refused. A function that is marked is
    called where Dynamo comes to it, and what is traced behind it has its effect. Eager does not look at the mark.
    """
    for module, name in _ONCE:
        function = getattr(sys.modules.get(module), name, None)  # versions before 5 have none
        if function is not None:
            torch.compiler.assume_constant_result(function)  # type: ignore[no-untyped-call]
