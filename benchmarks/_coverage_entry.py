"""One architecture of the coverage benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a call."""


@dataclass(frozen=True)
class Entry:
    """An architecture.

    Attributes:
        name: of it.
        needs: the package that it comes from; "torch" where there is no other.
        make: builds a small one with random weights, without dropout.
        inputs: batch size -> arguments of a call.
        static: why another batch size needs another capture; "" where it does not.
        rows: whether all inputs have a row for each of the batch, so that a step can be split.
    """

    name: str
    needs: str
    make: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    static: str = ""
    rows: bool = True
