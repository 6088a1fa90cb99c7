"""Dynamo's settings while it compiles for us, and only then; and what it leaves to eager meanwhile.

To patch settings around every call would take some 20 us of each. So a call only notes in its thread what it wants, and
Dynamo's own callbacks, which run where it begins and ends the compilation of a frame, do the rest.
"""

from __future__ import annotations

import inspect
import logging
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import torch
from torch._dynamo import config
from torch._dynamo.callback import callback_handler
from torch._dynamo.eval_frame import innermost_backend
from torch._dynamo.utils import counters, graph_break_reasons

from torchplace.compiler import strays
from torchplace.compiler.assignments import leaves_in_graphs
from torchplace.compiler.cached_properties import unlocked_properties
from torchplace.compiler.checks import checks_in_graphs
from torchplace.compiler.choices import Choices, made_for
from torchplace.compiler.failing import left_where_they_fail
from torchplace.compiler.foreseen import values_are_foreseen
from torchplace.compiler.foresight import Foresight, foreseen_for
from torchplace.compiler.hugging_face import prepare
from torchplace.compiler.left_out import LeftOut
from torchplace.compiler.module_hooks import hooked_modules
from torchplace.compiler.packed import unchecked
from torchplace.compiler.printed import prints_in_graphs
from torchplace.compiler.recurrent import steps_left_out
from torchplace.compiler.speculation import forget
from torchplace.compiler.spelled import numbers_spelled
from torchplace.compiler.substitutes import substitute, substituted
from torchplace.compiler.unguarded import looks_break_graphs
from torchplace.compiler.warned import warned_at_capture

WANTED: Mapping[str, Any] = {
    "allow_rnn": True,  # recurrent layers; by itself, Dynamo leaves them to eager
    "capture_dynamic_output_shape_ops": True,  # ops whose results' sizes hang on values, such as nonzero
    "capture_scalar_outputs": True,  # Tensor.item()
    "trace_autograd_ops": True,  # torch.autograd.grad in a model: forces, physics-informed losses, gradient penalties
    "skip_nnmodule_hook_guards": False,  # notice hooks that are registered later: else they would go unheard
}
"""What every capture wants: fewer graph breaks, and hooks heard. What loggers are told in the midst of a graph is left
out, too (`_logging`)."""


_WITHIN: Sequence[Callable[[], AbstractContextManager[Any]]] = (
    leaves_in_graphs,
    unlocked_properties,
    steps_left_out,
    unchecked,
    substituted,
    hooked_modules,
    warned_at_capture,
    prints_in_graphs,
    checks_in_graphs,
    looks_break_graphs,
    values_are_foreseen,
    numbers_spelled,
    strays.unseen,
)
"""What Dynamo does otherwise meanwhile."""

_COUNTED = ("graph_break", "unimplemented")
"""Of what Dynamo counts: why functions were not compiled as one graph, or not at all."""


class Backend(Protocol):
    """What captures graphs.

    Attributes:
        captures: how many it has captured.
        left: is told why of a function nothing was captured, as a whole or up to where its graph breaks.
    """

    captures: int
    left: LeftOut


class Settings:
    """What a compiled function wants of the frames that are compiled in its calls.

    Attributes:
        backend: is told what is left out.
        broken: whether a graph has broken, so that something runs in Python between captured graphs.
        choices: whether branches on values are traced as choices, and how many were.
        foresight: what was found where values that follow from integers were looked up; None where none are to be.
    """

    def __init__(
        self, backend: Backend | None, *, choices: bool = True, foreseen: bool = True, speculative: bool = False
    ) -> None:
        """Prepare; nothing is set.

        Args:
            backend: is told what is left out; None for nobody.
            choices: branches are traced as choices.
            foreseen: values are looked up.
            speculative: calls may begin anew, so that graphs may expect what cannot be looked up.
        """
        self.backend = backend
        self._stack = ExitStack()
        self._before: dict[str, Counter[str]] = {}
        self._captures = self._breaks = self._captures_before = 0
        self.broken = False
        self.choices = Choices(choices)
        self.foresight = Foresight() if foreseen else None
        if self.foresight is not None and speculative:
            self.foresight.may_expect = lambda: not self._has_begun()

    def begin(self) -> Settings | None:
        """Let them be what this thread wants; returns what it wanted before, for `end`."""
        listen()
        before, _local.wanted = _local.wanted, self
        self._captures_before = self._captured
        if self.broken:
            strays.begin()
        return before

    @staticmethod
    def end(before: Settings | None) -> None:
        """Let what this thread wanted before be what it wants."""
        _local.wanted = before
        if before is None:
            strays.end()

    def tell(self) -> None:
        """Say what a call that has come to its end has left to eager."""
        if self.backend is not None and self.backend.left.pending:
            self.backend.left.tell(stacklevel=4)

    def compiling(self) -> None:
        """Set them: a frame is going to be compiled."""
        prepare()
        substitute()
        heard = {"ignore_logging_functions": {*_logging(), warnings.warn}, "reorderable_logging_functions": {print}}
        self._stack.enter_context(config.patch({**WANTED, **heard}))
        self._stack.enter_context(made_for(self.choices))
        self._stack.enter_context(foreseen_for(self.foresight))
        self._stack.enter_context(left_where_they_fail(self._has_begun))
        for within in _WITHIN:
            self._stack.enter_context(within())
        self._before = {what: Counter(counters[what]) for what in _COUNTED}
        self._breaks = len(graph_break_reasons)
        self._captures = self._captured

    @property
    def _captured(self) -> int:
        """How many graphs the backend has captured so far."""
        return 0 if self.backend is None else self.backend.captures

    def _has_begun(self) -> bool:
        """Whether a part of the call that is under way may have been done, in a function that may be left to eager."""
        return self.backend is not None and (self.broken or self._captured != self._captures_before)

    def compiled(self) -> None:
        """Set back what was changed, and tell what was left out."""
        self._stack.close()
        forget()
        new = {what: Counter(counters[what]) - before for what, before in self._before.items()}
        broken = [reason.reason for reason in graph_break_reasons[self._breaks :]]  # values looked at are not counted
        reasons = list(new["graph_break"] or new["unimplemented"] or dict.fromkeys(broken))
        if reasons and _local.wanted is self:
            self.broken = True
            self.choices.wanted = False  # a call in its midst could not begin anew without them
            strays.begin()
        if reasons and self.backend is not None and self._captured == self._captures:
            for reason in reasons:
                self.backend.left.add(_brief(reason))


def listen() -> None:
    """Hear of every frame that Dynamo begins and ends to compile."""
    if _on_start not in callback_handler.start_callbacks:  # `torch.compiler.reset` forgets them
        callback_handler.register_start_callback(_on_start)
        callback_handler.register_end_callback(_on_end)


class _Local(threading.local):
    wanted: Settings | None = None
    compiling: Settings | None = None


_local = _Local()


# Dynamo calls these under a lock, also from backwards that are compiled in the midst of a frame of its own; to trace
# them there, it would wait for that lock for ever.
@torch._dynamo.disable  # type: ignore[untyped-decorator]
def _on_start(_: Any) -> None:
    if _local.compiling is not None:
        return
    wanted = _local.wanted or (Settings(None, choices=False) if _is_for_our_backend() else None)
    if wanted is not None:
        _local.compiling = wanted
        wanted.compiling()


@torch._dynamo.disable  # type: ignore[untyped-decorator]
def _on_end(_: Any) -> None:
    ended, _local.compiling = _local.compiling, None
    if ended is not None:
        ended.compiled()


def _is_for_our_backend() -> bool:
    """Whether the frame that is compiled now is for `torch.compile(..., backend="torchplace")`.

    Dynamo does not say so: it is read off the stack. To look at a frame's variables keeps them alive until it ends, so
    that is done with Dynamo's own alone.
    """
    frame = inspect.currentframe()
    while frame is not None and not (frame.f_globals.get("__name__") == _COMPILES and "compiler_fn" in frame.f_locals):
        frame = frame.f_back
    if frame is None:
        return False
    backend = innermost_backend(frame.f_locals["compiler_fn"])
    backend = getattr(backend, "compiler_fn", backend)  # in what `torch.compile` wraps it
    return str(getattr(backend, "__module__", "")).startswith("torchplace.")


_COMPILES = "torch._dynamo.convert_frame"


def _logging() -> set[Callable[..., Any]]:
    """The methods with which loggers log, those among them that a library has added (`warning_once`)."""
    kinds = ("debug", "info", "warning", "warn", "error", "critical", "exception", "log")
    return {f for name, f in vars(logging.Logger).items() if name.split("_")[0] in kinds}


def _brief(reason: str) -> str:
    """Of what Dynamo says of a graph break, what it is, and of what."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    context = [line.partition(":")[2].strip() for line in lines if line.startswith("Developer debug context:")]
    return ": ".join(filter(None, [*lines[:1], *context[:1]]))[:300]
