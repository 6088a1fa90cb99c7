"""Action: one entry of a schedule's table."""

from __future__ import annotations

from typing import NamedTuple

from torchplace.compiler.graph import Phase


class Action(NamedTuple):
    """A phase of a micro-batch.

    Attributes:
        phase: forward, backward or weight-grad.
        microbatch: which.
        chunk: which of the parts of the model that the stage has; 0 where it has one.
    """

    phase: Phase
    microbatch: int
    chunk: int = 0

    def __str__(self) -> str:
        return f"{self.phase[0].upper()}{self.microbatch}" + (f".{self.chunk}" if self.chunk else "")


Table = list[list[Action]]
"""For each stage, what it does, in order."""


def forward(k: int, chunk: int = 0) -> Action:
    """The forward pass of a micro-batch."""
    return Action("forward", k, chunk)


def backward(k: int, chunk: int = 0) -> list[Action]:
    """The backward pass of a micro-batch, with the gradients of its weights at once."""
    return [Action("backward", k, chunk), Action("weight-grad", k, chunk)]
