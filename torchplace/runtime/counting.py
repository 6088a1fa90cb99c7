"""Numbers in Python that a model's forward changes: a step of several micro-batches changes them once, and says so."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

Numbers = Mapping[str, float]
"""Dotted name of an attribute of a model's modules -> its value, where that is a plain number."""


def numbers_of(model: Any) -> Numbers:
    """The plain numbers among the attributes of a model's modules; of a function none. Cost: linear in those."""
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    return {
        f"{path}.{name}" if path else name: value
        for path, module in modules
        for name, value in vars(module).items()
        if type(value) in (int, float)
    }


def warn_of_changed(before: Numbers, model: Any, name: str, microbatches: int) -> None:
    """Warn of numbers that a step has changed, once instead of at each micro-batch."""
    now = numbers_of(model) if before else {}
    changed = [path for path, value in before.items() if now.get(path, value) != value]
    if changed:
        warnings.warn(
            f"the forward of {name!r} changes {', '.join(map(repr, changed[:3]))}: a number of Python, which a step "
            f"changes once for its {microbatches} micro-batches, not for each; what counts them should be a buffer",
            stacklevel=5,
        )
