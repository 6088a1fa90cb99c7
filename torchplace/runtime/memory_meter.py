"""Measures what memory a placed model takes on each device: what torch's allocator gives out and gets back.

Nothing is asked of the program but where its inputs start: whatever is allocated while a device works is that device's
until the allocator has it back, results, copies and workspaces alike. What a kernel takes elsewhere (the packing
buffers of a BLAS, which stay for the life of the thread) is not seen. CPU devices only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from torchplace.errors import ExecutionError
from torchplace.runtime.allocations import Allocation, watch
from torchplace.runtime.isolated import GIVEN, RANGE, IsolatedRuntime, given
from torchplace.runtime.session import Session


@dataclass
class DeviceMemory:
    """What was measured of one device.

    Attributes:
        peak: bytes that were taken at most.
        op: innermost op or range at that moment.
    """

    peak: int = 0
    op: str = ""
    _live: int = 0
    _held: dict[int, int] = field(default_factory=dict)

    def take(self, address: int, nbytes: int, op: str) -> None:
        """Count memory, unless it is counted already."""
        if nbytes > 0 and address not in self._held:
            self._held[address] = nbytes
            self._live += nbytes
            if self._live > self.peak:
                self.peak, self.op = self._live, op

    def give_back(self, address: int) -> None:
        """Count memory no longer."""
        self._live -= self._held.pop(address, 0)


def by_device(found: Iterable[Allocation], devices: Iterable[str]) -> dict[str, DeviceMemory]:
    """Whose memory it was: the device's that worked when it was given out, and every device's that was given it."""
    memory = {name: DeviceMemory() for name in devices}
    for a in found:
        if a.nbytes < 0:
            for device in memory.values():
                device.give_back(a.address)
        elif a.nbytes > 0:
            worker = next((r.removeprefix(RANGE) for r in a.ranges if r.startswith(RANGE)), None)
            if worker is not None:
                memory[worker].take(a.address, a.nbytes, a.ranges[-1])
        elif a.ranges and a.ranges[-1].startswith(GIVEN):
            name, address, nbytes = a.ranges[-1].removeprefix(GIVEN).rsplit(" ", 2)
            memory[name].take(int(address), int(nbytes), "")
    return memory


def isolate(session: Session) -> None:
    """Let a compiled model that was never called run on devices that share nothing.

    Raises:
        ExecutionError: it has been called, or a device is no CPU.
    """
    devices = session.runtime.torch_devices
    other = next((name for name, device in devices.items() if device.type != "cpu"), None)
    if other is not None:
        raise ExecutionError(f"device {other!r} is {devices[other]}; memory is measured on CPU devices only")
    if session.placed:
        raise ExecutionError("the model has been called already; isolate it before its first call")
    session.runtime = IsolatedRuntime(session.runtime.topology, devices)


def measure_memory(
    model: Any,
    session: Session,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    training: bool,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, DeviceMemory]:
    """Measure the memory of a step: a call, and in training its backward from the mean of each output.

    Gradients are there from no step before, and the outputs stay till the end. With an optimizer, whose state is made
    by a first step, that state counts where its parameter lives.

    Args:
        model: compiled.
        session: what runs it, isolated before its first call (`isolate`).
        args: positional arguments of the call.
        kwargs: keyword arguments.
        training: run the backward, too.
        optimizer: of the model's parameters.

    Returns:
        Device -> what was measured.
    """

    def step() -> None:
        with torch.set_grad_enabled(training):
            result = model(*args, **kwargs)  # held to the end, with whatever a tree does not show
            wanted = [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor) and t.requires_grad]
            if training and wanted:
                torch.autograd.backward([t.float().mean() for t in wanted])

    for _ in range(2):  # kernels keep what they make at first
        _forget_gradients(model)
        step()
    state = _optimizer_state(model, session, optimizer)
    _forget_gradients(model)
    return by_device([*state, *watch(step, marks=GIVEN)], session.request.topology.device_names)


def _forget_gradients(model: Any) -> None:
    for parameter in model.parameters() if isinstance(model, nn.Module) else ():
        parameter.grad = None


def _optimizer_state(model: Any, session: Session, optimizer: torch.optim.Optimizer | None) -> list[Allocation]:
    """The storages of an optimizer's state, as given to the devices of their parameters."""
    if optimizer is None:
        return []
    optimizer.step()
    where = {path: device for placed in session.placed for path, device in placed.plan.parameters.items()}
    found = []
    for path, parameter in model.named_parameters():
        for tensor in pytree.tree_leaves(optimizer.state.get(parameter, {})):
            if isinstance(tensor, torch.Tensor) and path in where:
                found.append(Allocation(0, 0, 0, (given(where[path], tensor),)))
    return found
