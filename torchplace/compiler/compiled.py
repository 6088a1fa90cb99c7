"""Compiled functions: what stands in place of a user's function, or of a module's call, and lets Dynamo capture it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torchplace.compiler import strays
from torchplace.compiler.dynamo import call_of
from torchplace.compiler.failures import is_of_model, raising_ours
from torchplace.compiler.findings import Outcomes
from torchplace.compiler.foresight import tried_in_vain
from torchplace.compiler.misspeculation import Misspeculation
from torchplace.compiler.settings import Settings
from torchplace.compiler.speculation import no_graph_for
from torchplace.compiler.strays import Restart
from torchplace.errors import CaptureError, Unexpected

_RECOMPILES = 256
"""How often a function may be captured. Where a graph breaks in every layer, all layers share the code of one."""


def compile_function(
    function: Callable[..., Any],
    backend: Callable[..., Any],
    *,
    foreseen: bool = True,
    speculative: bool = False,
    **options: Any,
) -> Callable[..., Any]:
    """Compile a function; returns a new one, which raises our errors as they are and Dynamo's as `CaptureError`.

    Args:
        function: what is compiled.
        backend: is given what Dynamo captures.
        foreseen: values that decide what is captured are looked up in the call (`foreseen`).
        speculative: those that cannot be are expected to be the same in others (`speculation`).
        options: of `torch.compile`.
    """
    compiled = _Compiled(function, backend, options, foreseen=foreseen, speculative=speculative)
    return lambda *args, **kwargs: compiled(args, kwargs)


def compile_module(module: torch.nn.Module, backend: Callable[..., Any], **options: Any) -> None:
    """Compile a module in place; its graphs are its own, whatever other instances of its class have compiled."""
    module._compiled_call_impl = compile_function(call_of(module), backend, **options)


class _Compiled:
    """A function, compiled as often as it has to be."""

    def __init__(
        self, function: Callable[..., Any], backend: Callable[..., Any], options: Mapping[str, Any], **lookups: bool
    ) -> None:
        self._function, self._backend, self._options = function, backend, options
        self._name = getattr(backend, "name", "")
        self._compiled = self._made(options)
        self._went_well = False  # whether a call did
        whole = options.get("fullgraph") or not hasattr(backend, "left")  # then what cannot be captured is an error
        told: Any = None if whole else backend
        self._settings = Settings(told, **lookups)
        self._may_be_left = not whole and not getattr(backend, "dry", False)
        self._left: set[Any] = set()  # calls of which nothing could be captured

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            result = self._tried(args, kwargs)
        except Unexpected as error:
            result = self._unexpected(args, kwargs, error)
        self._went_well = True
        if self._settings.foresight is not None:
            self._settings.foresight.calls += 1
        self._settings.tell()
        return result

    def _tried(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call it, anew as long as that has to be.

        Raises:
            Unexpected: no graph expects what this call comes to.
        """
        vain: dict[Outcomes, Misspeculation] = {}
        while True:
            before, drawn = self._settings.begin(), torch.get_rng_state() if self._may_restart else None
            try:
                with tried_in_vain(vain):
                    return self._call(args, kwargs)
            except (Restart, Misspeculation, Unexpected) as error:
                if drawn is not None:
                    torch.set_rng_state(drawn)
                if isinstance(error, Unexpected):
                    raise
                if isinstance(error, Misspeculation):
                    self._note(error, vain)
            finally:
                self._settings.end(before)

    @property
    def _may_restart(self) -> bool:
        foresight = self._settings.foresight
        return self._settings.broken or not self._went_well or (foresight is not None and foresight.expects > 0)

    def _note(self, failed: Misspeculation, vain: dict[Outcomes, Misspeculation]) -> None:
        """Note a graph that was tried in vain. If the next one would expect the same, it is not for what it expects.

        Or to run a part of the model by itself gives something else than the graph, as where dropout decides: then
        nothing is expected any more.

        Raises:
            Unexpected: as many as there may be were tried.
        """
        foresight = self._settings.foresight
        assert foresight is not None
        first = vain.setdefault(failed.outcomes, failed)
        if first is not failed:
            if not first.was_checked:
                raise first.__cause__ or first
            foresight.gave_up = True
        elif len(vain) >= foresight.most and first.was_checked:
            raise no_graph_for(failed.outcomes[0][0])

    def _unexpected(self, args: Sequence[Any], kwargs: Mapping[str, Any], error: Unexpected) -> Any:
        """A call for which there is no graph, as it is; what plans have moved comes back for that."""
        foresight = self._settings.foresight
        assert foresight is not None
        foresight.count_unexpected()
        if foresight.gave_up:
            return self._tried(args, kwargs)
        if not self._may_be_left:
            raise error
        self._tell_left(f"calls like one in which {error}")
        before = self._settings.begin()
        try:
            strays.begin()
            return self._function(*args, **kwargs)
        finally:
            self._settings.end(before)

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call it, compiled; as it is, with a warning, where capture fails and eager does not."""
        if self._left and _kind_of_call(args, kwargs) in self._left:
            return self._function(*args, **kwargs)
        broken, captures = self._settings.broken, self._captures
        try:
            return self._captured(args, kwargs)
        except CaptureError as error:
            begun = broken or captures != self._captures  # a part of the call may have been done
            if begun or not is_of_model(error) or not self._may_be_left:
                raise
            self._settings.broken = broken  # what has failed was no break
            try:
                result = self._function(*args, **kwargs)
            except Exception as wrong:
                raise error from wrong
            self._tell_left(str(error))
            self._left.add(_kind_of_call(args, kwargs))
            return result

    def _tell_left(self, reason: str) -> None:
        if self._settings.backend is not None:
            self._settings.backend.left.add(reason)

    @property
    def _captures(self) -> int:
        """How many graphs were captured so far."""
        return int(getattr(self._backend, "captures", 0))

    def _captured(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call it; each size is captured by itself from now on, where some op takes no symbols for sizes.

        Branches on values break the graph from now on, where neither what `torch.cond` makes of them can be captured,
        nor what comes of it if they are expected to go one way.
        """
        choices, foresight, captures = self._settings.choices, self._settings.foresight, self._captures
        expects = 0 if foresight is None else foresight.expects
        try:
            return raising_ours(self._compiled, self._name, args, kwargs)
        except CaptureError as error:
            anew = is_of_model(error) and captures == self._captures
            if anew and choices.wanted and choices.made:
                choices.wanted, self._compiled = False, self._made(self._options)
                return self._captured(args, kwargs)
            if anew and foresight is not None and foresight.expects > expects and not foresight.gave_up:
                foresight.gave_up = True
                return self._captured(args, kwargs)
            if not is_of_model(error) or not self._went_well or self._options.get("dynamic") is not None:
                raise
        fixed = {**self._options, "dynamic": False}
        static = self._made(fixed)
        result = raising_ours(static, self._name, args, kwargs)
        self._compiled, self._options = static, fixed
        return result

    def _made(self, options: Mapping[str, Any]) -> Callable[..., Any]:
        own = {"isolate_recompiles": True, "recompile_limit": _RECOMPILES}
        made: Callable[..., Any] = torch.compile(self._function, backend=self._backend, **own, **options)  # type: ignore[call-overload]  # the stub lacks both
        return made


def _kind_of_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What calls have in common whose captures do: whether there are gradients, and what the tensors are."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, dict(kwargs))) if isinstance(leaf, torch.Tensor)]
    return torch.is_grad_enabled(), *((t.shape, t.dtype, t.requires_grad) for t in tensors)
