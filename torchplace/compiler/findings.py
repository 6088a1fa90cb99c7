"""Findings: what was found in a call where a graph hangs on values.

What takes too long to find in every call is expected (`speculation`): nothing can be said of it until a call has tried
the graph, which checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch._guards import Guard, TracingContext

from torchplace.compiler.formulas import Call

T = TypeVar("T")

Read = Callable[[Call], Any]
Outcomes = tuple[tuple[str, Any], ...]
"""What a graph expects: line of the model, and what it comes to there, in order."""


@dataclass(frozen=True)
class Finding:
    """What was found in the call that is captured.

    Attributes:
        line: of the model, that had to know: file and number.
        read: finds it in another call; None for what is expected to be the same, and checked when the graph runs.
        value: what was found.
    """

    line: str
    read: Read | None
    value: Any

    def holds(self, call: Call) -> bool:
        """Whether another call has the same there, as far as can be said before it runs."""
        return self.read is None or bool(self.read(call) == self.value)


class Findings:
    """What was found in one capture.

    Attributes:
        found: in order.
        guard: holds in calls for which the graph is to be tried.
    """

    def __init__(self, guarding: Callable[[Findings], Guard]) -> None:
        """Nothing was found yet; `guarding` makes the guard."""
        self.found: list[Finding] = []
        self.guard = guarding(self)

    def at(self, line: str) -> tuple[Any, ...]:
        """What was found at a line of the model."""
        return tuple(found.value for found in self.found if found.line == line)

    @property
    def expected(self) -> Outcomes:
        """What is checked when the graph runs."""
        return tuple((found.line, found.value) for found in self.found if found.read is None)

    def hold(self, calls: Sequence[Call]) -> bool:
        """Whether the same is found in calls, as far as can be said before they run."""
        return all(found.holds(call) for call in calls for found in self.found)


def read_apart(read: Callable[[T], Any], given: Sequence[T]) -> list[Any]:
    """What is read of each, in a thread of its own; nothing where that fails: an op, a tensor without values.

    The modes, and the settings, of a thread in which Dynamo traces are those of the trace.
    """
    with ThreadPoolExecutor(1) as apart:
        try:
            return list(apart.map(read, given))
        except Exception:
            return []


def line_now() -> str:
    """Where in the model the trace is: the innermost line that is not torch's."""
    frames = [frame for frame in TracingContext.extract_stack() if not frame.filename.startswith(_TORCH)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "torch"


_TORCH = str(Path(torch.__file__).parent)
