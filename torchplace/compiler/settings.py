"""Dynamo's settings while it compiles for us, and only then.

To patch them around every call would take some 20 us of each. So a call only notes in its thread what it wants, and
Dynamo's own callbacks, which run where it begins and ends a compilation, do the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch._dynamo import config
from torch._dynamo.callback import callback_handler

USUAL: Mapping[str, Any] = {
    "allow_rnn": True,  # recurrent layers; by itself, Dynamo leaves them to eager: a graph of all steps may be large
    "capture_dynamic_output_shape_ops": True,  # ops whose results' sizes hang on values, such as nonzero
    "capture_scalar_outputs": True,  # Tensor.item()
    "skip_nnmodule_hook_guards": False,  # notice hooks that are registered later: else they would go unheard
}
"""What every capture wants. What is beside `skip_nnmodule_hook_guards` breaks fewer graphs."""


class _Local(threading.local):
    wanted: Mapping[str, Any] | None = None
    patch: AbstractContextManager[Any] | None = None


_local = _Local()


@contextmanager
def settings(wanted: Mapping[str, Any]) -> Iterator[None]:
    """Within, what this thread compiles is compiled with these settings."""
    if _on_start not in callback_handler.start_callbacks:  # `torch.compiler.reset` forgets them
        callback_handler.register_start_callback(_on_start)
        callback_handler.register_end_callback(_on_end)
    outer, _local.wanted = _local.wanted, wanted
    try:
        yield
    finally:
        _local.wanted = outer


def _on_start(_: Any) -> None:
    if _local.wanted is not None and _local.patch is None:
        _local.patch = config.patch(**_local.wanted)
        _local.patch.__enter__()


def _on_end(_: Any) -> None:
    patch, _local.patch = _local.patch, None
    if patch is not None:
        patch.__exit__(None, None, None)
