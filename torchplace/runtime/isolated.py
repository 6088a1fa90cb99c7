"""Runs a program on CPU devices as if each had memory of its own, in one thread: what a program means at its strictest.

Elsewhere CPU devices hand over references. Here a receive makes a copy, and a send waits for its receive, as the
verifier assumes; so which tensor is on which device, and when, follows from the program alone. It is slow, and made to
be watched: all that a device does happens within a profiler's range that bears the device's name.
"""

from __future__ import annotations

import queue
from collections.abc import Mapping
from typing import Any

import torch
from torch.profiler import record_function

from torchplace.compiler.dynamo import below_autograd
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Instruction, Recv, Send
from torchplace.compiler.lifetimes import Instance, freed_behind
from torchplace.compiler.program import Program
from torchplace.compiler.verify import verify
from torchplace.errors import ExecutionError
from torchplace.runtime.executable import Executable
from torchplace.runtime.interpreter import Call, DeviceProgram, Env, Step
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.transport import copy_to

RANGE, GIVEN = "torchplace device ", "torchplace given "
"""What the names of the ranges begin with: in which a device works, and which say what it is given."""


def given(device: str, tensor: torch.Tensor) -> str:
    """The name of a range that says that a device is given a tensor: its storage's address and bytes."""
    storage = tensor.untyped_storage()
    return f"{GIVEN}{device} {storage.data_ptr()} {storage.nbytes()}"


class Meeting:
    """A channel on which a send waits for its receive; both try again when `queue.Empty` is raised."""

    def __init__(self) -> None:
        """Nobody has come."""
        self._offered: list[Any] = []
        self._taken = False

    def send(self, item: Any) -> None:
        """Hand an item over, once it has been taken."""
        if self._taken:
            self._taken = False
            return
        if not self._offered:
            self._offered.append(item)
        raise queue.Empty

    def receive(self) -> Any:
        """Take what is offered."""
        if not self._offered:
            raise queue.Empty
        self._taken = True
        return self._offered.pop()


class IsolatedRuntime(LocalRuntime):
    """Runs programs on CPU devices that share nothing."""

    def prepare(self, program: Program, graph: Graph, keys: Mapping[str, str] | None = None) -> Executable:
        """Verify a program and compile its segments.

        Raises:
            ProgramError: the program has faults.
        """
        verify(program)
        return _Executable(self, program, graph, keys)


class _Program(DeviceProgram):
    """One device's list: it takes what it receives at the receive, not at the first use."""

    def _with_waits(self) -> list[tuple[Instruction, list[tuple[Instance, str]], set[Instance]]]:
        instructions = self.program.instructions.get(self.device, [])
        return [(instruction, [], freed_behind(instructions, i)) for i, instruction in enumerate(instructions)]

    def _action(self, instruction: Instruction, freed: set[Instance]) -> Step:
        match instruction:
            case Send():
                return self._offer(instruction)
            case Recv():
                return self._take(instruction)
        return super()._action(instruction, freed)

    def _offer(self, send: Send) -> Step:
        key, route = (send.value, send.microbatch), (self.device, send.to)
        return lambda call, env: _meeting(call, route).send(env[key])

    def _take(self, recv: Recv) -> Step:
        key, route, device = (recv.value, recv.microbatch), (recv.source, self.device), self.torch_device

        def action(call: Call, env: Env) -> None:
            value = _meeting(call, route).receive()
            env[key] = copy_to(value, device) if isinstance(value, torch.Tensor) else value

        return action


def _meeting(call: Call, route: tuple[str, str]) -> Meeting:
    channel: Any = call.channels[route]
    assert isinstance(channel, Meeting)
    return channel


class _Executable(Executable):
    """A program whose devices take turns."""

    interpreter = _Program

    def _start(self, inputs: dict[Instance, Any]) -> tuple[Call, dict[str, Env]]:
        call, envs = super()._start(inputs)
        call.channels = {route: Meeting() for route in self.routes}  # type: ignore[misc]
        for device, env in envs.items():
            for value in env.values():
                if isinstance(value, torch.Tensor):
                    with record_function(given(device, value)):
                        pass
        return call, envs

    def _in_this_thread(self) -> bool:
        return True

    def _run_here(self, call: Call, envs: dict[str, Env]) -> None:
        at, idle = dict.fromkeys(self.active, 0), 0
        with torch.no_grad(), below_autograd():
            while any(at[d] < len(self.devices[d].steps) for d in self.active):
                before = dict(at)
                for device in self.active:
                    with record_function(RANGE + device):
                        at[device] = self._advance(device, at[device], call, envs[device])
                idle = idle + 1 if at == before else 0
                if idle > 1:  # in the first such round, what was offered may have come too late to be taken
                    raise ExecutionError(f"program {self.program.name!r}: no device can go on (a fault of lowering)")
