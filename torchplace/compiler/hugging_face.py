"""Models of transformers: what they would do at their first call, in the midst of a capture, is done before it."""

from __future__ import annotations

import sys

from torch import nn

_CAPTURING = "transformers.utils.output_capturing"


def prepare(model: nn.Module) -> None:
    """Install the hooks that record hidden states, attentions and router logits, where a model is one of transformers.

    It installs them itself when it is called first, under a lock, which Dynamo cannot trace: the graph would break
    there, and a step, which must be one graph, be refused.
    """
    capturing, transformers = sys.modules.get(_CAPTURING), sys.modules.get("transformers")
    install = getattr(capturing, "maybe_install_capturing_hooks", None)  # versions before 5 have none
    if install is None or transformers is None:
        return
    for module in model.modules():
        if isinstance(module, transformers.PreTrainedModel):
            install(module)
