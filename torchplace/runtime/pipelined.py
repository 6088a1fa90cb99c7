"""Step: a call of a model that goes through its devices micro-batch by micro-batch, with loss and backward."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex

import torch
from torch import nn

from torchplace.compiler.failures import is_of_model
from torchplace.compiler.homes import set_home
from torchplace.compiler.joint import Loss
from torchplace.errors import CaptureError, OptionError, Unexpected
from torchplace.placement.pipelining import AUTO
from torchplace.placement.timeline import Timeline
from torchplace.runtime.accelerator import own_device
from torchplace.runtime.apart import Apart
from torchplace.runtime.executable import Executable
from torchplace.runtime.microbatches import BatchDims, Split, Splitter, call_of, weighted
from torchplace.runtime.optimizing import Optimizing
from torchplace.runtime.row import Row, alike, joined
from torchplace.runtime.saving import save_whole
from torchplace.runtime.session import Session
from torchplace.runtime.subject import Subject
from torchplace.runtime.whole import Whole

Reduction = str | Callable[[Any], Any]
"""`mean`, `sum`, or a function that gives the weight of a micro-batch, of its target (of its keyword arguments, if it
has none)."""

_TRIES = 2
"""How often a step may fail to be one graph."""


class Step:
    """What `tp.compile(model, loss_fn=..., microbatches=...)` gives: `loss = step(*args, target=..., **kwargs)`.

    A step is captured at its first call, for the shapes of a micro-batch; it does what eager does that runs forward,
    loss and backward for one micro-batch after the other: gradients are added to `.grad`, buffers are written in order.
    Where a micro-batch is no single graph, they do run one after the other (`Apart`), with a warning.

    Attributes:
        model: what is trained.
        session: its plans and programs.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        session: Session,
        *,
        loss_fn: Loss | None = None,
        microbatches: int = 1,
        batch_dims: BatchDims = 0,
        reduction: Reduction | None = None,
        schedule: str = AUTO,
        dynamic: bool | None = None,
        fullgraph: bool = False,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Prepare; nothing is captured yet.

        Args:
            model: a module or a function of tensors.
            session: plans and runs what is captured.
            loss_fn: of (output, target), or of the output alone; None for a model whose output has a `loss`.
            microbatches: into which a step's inputs are split, at most.
            batch_dims: where the rows are.
            reduction: how losses of micro-batches make that of the batch; None for what `loss_fn` says, or the mean.
            schedule: in which order devices do what there is to do.
            dynamic: dynamic shapes, as `torch.compile` takes it.
            fullgraph: a step that is no single graph is an error.
            optimizer: does its step in each step that has gradients, on each device as soon as it has all of its own;
                then they are dropped.
        """
        self.optimizer = optimizer
        self.model, self.session, self.loss_fn = model, session, loss_fn
        self._subject = Subject(model, session, loss_fn, dynamic)
        self.whole = Whole(self._subject, schedule)
        self.reduction = reduction or getattr(loss_fn, "reduction", "mean")
        self.splitter = Splitter(microbatches, batch_dims, self._subject.arguments)
        self._fullgraph = fullgraph
        self._apart = Apart(self._subject)
        self._failures = 0
        self._warned: set[str] = set()
        self._ran: Sequence[Executable] = ()
        if isinstance(model, nn.Module):
            session.model = weakref.ref(model)
            _call_home(model, own_device())

    def __repr__(self) -> str:
        count, schedule = self.splitter.microbatches, self.whole.schedule
        return f"<Step of {self._subject.name!r}: {count} micro-batch(es), schedule {schedule!r}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be copied or pickled: it holds compiled code and parameters where they are placed; "
            "copy, or pickle, the model, and compile that"
        )

    def __call__(
        self, *args: Any, target: Any = None, return_outputs: bool = False, grad_scale: Any = 1.0, **kwargs: Any
    ) -> Any:
        """Run a step.

        Args:
            *args: of the model; with a `loss_fn` that takes a target, and no `target`, the last is that.
            target: for the loss; split as the inputs are.
            return_outputs: return what the model returned for the whole batch, too.
            grad_scale: gradients are multiplied by it, as by `GradScaler.scale`; a number or a tensor of one.
            **kwargs: of the model.

        Returns:
            The loss of the whole batch, detached; with `return_outputs`, (loss, outputs). Where there is no loss (no
            `loss_fn`, under `torch.no_grad`), the outputs.

        Raises:
            CaptureError: the step cannot be captured as one graph, and it has several ranks, or eager fails, too.
            ExecutionError: an op failed; names it. Parameters are as they were; gradients may be those of a part of the
                batch: drop them (`zero_grad`).
            InfeasibleError: nothing fits the devices.
            OptionError: inputs have no rows, or different numbers of them.
        """
        split = self.splitter.split(call_of(args, kwargs, target, self.loss_fn))
        weights = self._weights(split)
        inference = self.loss_fn is None and not torch.is_grad_enabled()
        scale = float(grad_scale)
        rows = [
            Row(split.calls[start:end], [w * scale for w in weights[start:end]], return_outputs or inference)
            for start, end in alike(split.rows)
        ]
        self._ran = self.whole.ran = []
        if self.optimizer is not None and torch.is_grad_enabled():
            rows[-1].optimizing = Optimizing(self.optimizer, self._subject.owners)
        self._run(rows)
        self._hand_back(rows)
        if rows[-1].optimizing is not None:
            rows[-1].optimizing.finish(self.session.runtime)
        outputs = joined(rows, split, weights, self.splitter.output_dim) if return_outputs or inference else None
        if inference:
            return outputs
        with torch.no_grad():
            loss = weighted([piece for row in rows for piece in row.results[0]], weights)
        return (loss, outputs) if return_outputs else loss

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What of the model's state is in this process, by the model's own names: on a rank, what it owns."""
        held = self.model.state_dict() if isinstance(self.model, nn.Module) else {}
        return {name: t for name, t in held.items() if not (isinstance(t, torch.Tensor) and t.device.type == "meta")}

    def save(self, path: str | Path) -> None:
        """Write the whole model to a safetensors file, by its own names, whole or not at all.

        Every rank has to call it; rank 0 needs host memory for the whole model.

        Raises:
            OptionError: the model is no module.
            PlanError: the file cannot be written.
            RankError: another rank has failed.
        """
        if not isinstance(self.model, nn.Module):
            raise OptionError(f"{self!r} is of a function; expected a step of a module, which has parameters to save")
        save_whole(self.model, self.session, Path(path))

    @property
    def timeline(self) -> Timeline:
        """What ran in the last step, and when; on one of several ranks, what that rank did."""
        return Timeline.joined(executable.timeline for executable in self._ran)

    def _weights(self, split: Split) -> list[float]:
        """Of every micro-batch's loss in that of the batch."""
        if self.reduction == "sum":
            return [1.0] * len(split.rows)
        counts = [float(rows) for rows in split.rows]
        if callable(self.reduction):
            counts = [float(self.reduction(*(c.target or (c.kwargs,)))) for c in split.calls]
        total = sum(counts)
        return [count / total if total else 0.0 for count in counts]

    def _run(self, rows: Sequence[Row]) -> None:
        """Run them as one graph; if that is not to be, in parts.

        It is tried twice: models that make something in their first call are one graph from then on.
        """
        apart = self._failures >= _TRIES
        for row in rows:
            if apart:
                self._apart.run(row)
                continue
            try:
                self.whole.run(row)
            except CaptureError as error:
                rare = isinstance(error, Unexpected)
                if self.whole.ran and not rare:
                    raise
                self._run_apart(row, error)
                apart = not rare
        if len(self.whole.ran) < len(rows):
            self._ran = [part for placed in self.session.placed for part in placed.parts]

    def _run_apart(self, row: Row, error: CaptureError) -> None:
        """Run a row in parts, which has failed to be one graph.

        Raises:
            CaptureError: it must be one graph, as on several ranks, which run one program; or capture did not fail for
                what the model does, or eager fails as well.
        """
        rare = isinstance(error, Unexpected)
        if self._fullgraph or not (rare or is_of_model(error)) or not self.session.alone:
            raise error
        try:
            self._apart.run(row)
        except Exception as wrong:
            raise error from wrong
        self._failures += not rare
        what = "a step" if rare else "the step"
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(
                f"{what} of {self._subject.name!r} is not pipelined, for it is no single graph: its micro-batches "
                f"run one after the other, and what of the model can be captured runs placed; {error}",
                stacklevel=4,
            )

    @staticmethod
    def _hand_back(rows: Sequence[Row]) -> None:
        """Let the gradients of inputs go on to where the caller made these."""
        pairs = [pair for row in rows for pair in row.gradients]
        if pairs:
            torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])


def _call_home(model: nn.Module, device: torch.device) -> None:
    """Let what stands on the meta device be captured as if it were on a device, where it will be."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "meta":
            set_home(tensor, device)
