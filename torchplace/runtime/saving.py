"""Gathers a model that is spread over ranks, and writes it to one file."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from torchplace.errors import PlanError
from torchplace.runtime.distributed import DistributedRuntime
from torchplace.runtime.session import Session
from torchplace.runtime.wire import Wire


def save_whole(model: nn.Module, session: Session, path: Path) -> None:
    """Write all parameters and buffers to a safetensors file; on several ranks, rank 0 does (`Step.save`)."""
    runtime, state = session.runtime, dict(model.state_dict())
    if isinstance(runtime, DistributedRuntime):
        with runtime.all_fail("saving"):
            owners = session.owners.of(dict(model.state_dict(keep_vars=True)))
            state = _gathered(state, owners, runtime)
    if not isinstance(runtime, DistributedRuntime) or runtime.rank == 0:
        _write({name: t for name, t in state.items() if isinstance(t, torch.Tensor)}, path)


def _gathered(state: dict[str, Any], owners: dict[str, str], runtime: DistributedRuntime) -> dict[str, Any]:
    """On rank 0 the whole state; elsewhere what was there."""
    here = {name: t for name, t in state.items() if owners.get(name, runtime.device) == runtime.device}
    elsewhere = {name: device for name, device in owners.items() if device != runtime.names[0] and name in state}
    if runtime.rank:
        for name in (n for n, device in elsewhere.items() if device == runtime.device):
            runtime.outbox(runtime.names[0]).put(Wire.like(state[name]).pack(state[name]).clone())
        runtime.drain()
        return here
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for name, device in elsewhere.items():
        runtime.inbox(device).expect([(name, Wire.like(state[name]))], came)
    awaited = {name: runtime.names.index(device) for name, device in elsewhere.items()}
    runtime.take(came, awaited, here, "saving")
    return {name: here.get(name, tensor) for name, tensor in state.items()}


def _write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Tensors that share memory are written once for each of their names."""
    part = path.with_name(f".{path.name}.part")
    try:
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, part)
        part.replace(path)
    except Exception as error:
        part.unlink(missing_ok=True)
        raise PlanError(f"cannot write the model to {str(path)!r}: {error}") from error
