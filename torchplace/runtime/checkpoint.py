"""Checkpoints of a training run: written whole or not at all, read by any number of devices."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from torchplace.errors import ExecutionError, OptionError
from torchplace.runtime.distributed import DistributedRuntime
from torchplace.runtime.pipelined import Step

_NAME = re.compile(r"step-(\d+)")


class Checkpointer:
    """Saves a step's model and its optimizer now and then, and goes on from the last that is whole.

    A checkpoint is a folder `step-N` in the form of `torch.distributed.checkpoint`: every rank writes what it has, and
    the folder gets its name when all have. It holds tensors by the model's own names, so another number of devices, or
    another plan, reads it, too.

    Example:
        >>> saver = tp.Checkpointer(step, optimizer, every=100, folder="checkpoints")  # doctest: +SKIP
        >>> for i in range(saver.load(), 10_000):  # doctest: +SKIP
        ...     loss = step(*batch(i))
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     saver.done(i + 1)
    """

    def __init__(
        self,
        step: Step,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        every: int = 1000,
        folder: str | Path = "checkpoints",
        keep: int = 2,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; nothing is read or written yet.

        Args:
            step: whose model is saved.
            optimizer: of its parameters.
            every: how many steps lie between two checkpoints.
            folder: where they are.
            keep: how many of them stay.
            extra: name -> something else with `state_dict` and `load_state_dict`: a scheduler, a scaler.

        Raises:
            OptionError: the step's model is no module, or a number is below 1.
        """
        for name, number in (("every", every), ("keep", keep)):
            if number < 1:
                raise OptionError(f"{name} is {number!r}; expected a whole number of 1 or more")
        if not isinstance(step.model, nn.Module):
            raise OptionError(f"{step!r} is of a function; expected a step of a module, which has parameters to save")
        self.step, self.model, self.optimizer = step, step.model, optimizer
        self.every, self.folder, self.keep, self.extra = every, Path(folder), keep, dict(extra or {})

    @property
    def steps(self) -> list[int]:
        """The steps of which there is a whole checkpoint, the last one last."""
        found = (_NAME.fullmatch(p.name) for p in self.folder.glob("step-*") if (p / ".metadata").exists())
        return sorted(int(match[1]) for match in found if match is not None)

    def load(self) -> int:
        """Read the last checkpoint, if there is one; returns how many steps it has behind it, else 0.

        Parameters that stand on the meta device until the first step get their values then.
        """
        if not self.steps:
            return 0
        last = self.folder / f"step-{self.steps[-1]}"
        reader = FileSystemReader(last)
        known = reader.read_metadata().state_dict_metadata
        state: dict[str, Any] = {k: t for k, t in self._tensors(known).items() if k in known}
        state.update(self._rest())
        load(state, storage_reader=reader, no_dist=True)
        if any(t.device.type == "meta" for t in (*self.model.parameters(), *self.model.buffers())):
            self.step.session.weights = last
        self._take_rest(state)
        return self.steps[-1]

    def _rest(self) -> dict[str, Any]:
        """What is saved beside tensors of the model and the optimizer's state."""
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        settings = {str(i): {k: v for k, v in g.items() if k != "params"} for i, g in enumerate(groups)}
        extra = {name: thing.state_dict() for name, thing in self.extra.items()}
        return {"random": torch.get_rng_state(), "groups": settings, "extra": extra}

    def _take_rest(self, state: Mapping[str, Any]) -> None:
        torch.set_rng_state(state["random"])
        for i, group in enumerate(self.optimizer.param_groups if self.optimizer is not None else []):
            group.update(state["groups"][str(i)])
        for name, thing in self.extra.items():
            thing.load_state_dict(state["extra"][name])

    def done(self, steps: int) -> None:
        """Save if it is time to.

        Args:
            steps: how many have been done.

        Raises:
            ExecutionError: it cannot be written; the last checkpoint stays as it was.
            RankError: another rank has failed.
        """
        if steps % self.every == 0:
            self.save(steps)

    def save(self, steps: int) -> None:
        """Save now; raises as `done` does."""
        part, whole = self.folder / f".step-{steps}.part", self.folder / f"step-{steps}"
        tensors: dict[str, Any] = dict(self._tensors(None))
        tensors.update(self._rest())
        runtime = self.step.session.runtime
        group = runtime.group if isinstance(runtime, DistributedRuntime) else None

        def write() -> None:
            save(tensors, storage_writer=FileSystemWriter(part), process_group=group, no_dist=group is None)

        self._beside(write)
        if not isinstance(runtime, DistributedRuntime) or runtime.rank == 0:
            shutil.rmtree(whole, ignore_errors=True)
            part.rename(whole)
            for old in self.steps[: -self.keep]:
                shutil.rmtree(self.folder / f"step-{old}", ignore_errors=True)

    def _beside(self, work: Callable[[], None]) -> None:
        """Do work in which torch.distributed waits for other ranks, in a thread: so a fault of theirs is heard."""
        failed: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)

        runtime = self.step.session.runtime
        thread = threading.Thread(target=run, name="torchplace checkpoint", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if isinstance(runtime, DistributedRuntime) and runtime.watch.reason:
                raise runtime.watch.error()
        if failed:
            text = " ".join(str(failed[0]).split())[:300]
            if isinstance(runtime, DistributedRuntime):
                runtime.watch.fail(f"rank {runtime.rank} could not save a checkpoint to {str(self.folder)!r}: {text}")
                raise runtime.watch.error() from failed[0]
            raise ExecutionError(f"cannot save a checkpoint to {str(self.folder)!r}: {text}") from failed[0]

    def _tensors(self, known: Mapping[str, Any] | None) -> dict[str, torch.Tensor]:
        """All that is saved, by name: of the model, and of the optimizer, whose state is made where it is to be read.

        Args:
            known: what a checkpoint has; None for what there is.
        """
        named = {f"model.{name}": tensor.detach() for name, tensor in self.model.state_dict(keep_vars=True).items()}
        tensors = {name: tensor for name, tensor in named.items() if isinstance(tensor, torch.Tensor)}
        for key, holder, name in self._optimizer_state(known):
            tensors[key] = holder[name]
        return {key: tensor for key, tensor in tensors.items() if tensor.device.type != "meta"}

    def _optimizer_state(self, known: Mapping[str, Any] | None) -> list[tuple[str, Any, str]]:
        """(Key, mapping, name in it) of every tensor of the optimizer's state."""
        if self.optimizer is None:
            return []
        found: list[tuple[str, Any, str]] = []
        for path, parameter in self.model.named_parameters():
            prefix = f"optimizer.{path}."
            if parameter.device.type == "meta":  # another rank's, by now
                self.optimizer.state.pop(parameter, None)
                continue
            state = self.optimizer.state[parameter]
            for key in (k for k in known or () if k.startswith(prefix)):
                like = known[key]  # type: ignore[index]
                state.setdefault(key.removeprefix(prefix), torch.zeros(like.size, dtype=like.properties.dtype))
            found += [(prefix + name, state, name) for name, value in state.items() if isinstance(value, torch.Tensor)]
        return found
