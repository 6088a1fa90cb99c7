"""Interprets one device's list of instructions. Which thread does it, and how it waits, is its caller's choice."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any

import torch

from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Reduce, Run, Send, Update
from torchplace.compiler.lifetimes import Boundary, Instance, freed_behind, makes, uses
from torchplace.compiler.program import Program
from torchplace.errors import ProgramError
from torchplace.runtime.accelerator import Courier, Parcel
from torchplace.runtime.kernels import Kernel, Maker, make_kernel
from torchplace.runtime.op_error import op_error
from torchplace.runtime.transport import overwrite

Env = dict[Instance, Any]
Step = Callable[["Call", Env], None]
Behind = Callable[[Env], None]
"""What a device does when it has done its list, with what that has left."""


class Aborted(Exception):  # noqa: N818  # an outcome, not an error: another device has failed
    """Another device of this call has failed; this one stops."""


ABORT = object()


@dataclass(eq=False)
class Call:
    """One run of a program: what its devices share.

    Attributes:
        seed: of this step.
        channels: (source, target) -> what is on its way, in order.
        originals: the caller's tensors: what `update` writes to.
        blocking: whether a device waits for a value that is not there yet (else `queue.Empty` is raised).
        events: device -> (instruction, start, end), in `perf_counter` seconds.
        behind: device -> what it does when it has done its list.
    """

    seed: int
    channels: dict[tuple[str, str], queue.SimpleQueue[Any]]
    originals: dict[Instance, Any]
    blocking: bool = True
    events: dict[str, list[tuple[Instruction, float, float]]] = field(default_factory=dict)
    behind: Mapping[str, Behind] = field(default_factory=dict)

    def abort(self) -> None:
        """Wake every device that waits, now or later: it stops with `Aborted`."""
        for channel in self.channels.values():
            channel.put(ABORT)


class DeviceProgram:
    """One device's list, prepared: kernels compiled, waits worked out."""

    def __init__(
        self,
        program: Program,
        graph: Graph,
        device: str,
        torch_devices: Mapping[str, torch.device],
        keys: Mapping[str, str],
        make: Maker = make_kernel,
    ) -> None:
        """Prepare the list of `device`.

        Args:
            program: the whole program.
            graph: that it was lowered from.
            device: the device's name.
            torch_devices: name -> torch device, of all of them.
            keys: op name -> structural key, for ops that draw random numbers.
            make: makes what runs a segment.
        """
        self.make = make
        self.program, self.graph, self.device, self.keys = program, graph, device, keys
        self.torch_device = torch_devices[device]
        self.couriers = {d: Courier(self.torch_device, t) for d, t in torch_devices.items()}
        self.receivers = {d: Courier(t, self.torch_device) for d, t in torch_devices.items()}
        self.ops = {op.name: op for op in graph.ops}
        self.updated = {i.state for _, i in program if isinstance(i, Update)}
        self.shared = Boundary(program).shared
        self.kernels: dict[str, Kernel] = {}
        self.steps = [self._step(*found) for found in self._with_waits()]

    def _with_waits(self) -> list[tuple[Instruction, list[tuple[Instance, str]], set[Instance]]]:
        """Each instruction, the received values that it is the first to use (and their senders), what is freed next."""
        pending: dict[Instance, str] = {}
        result = []
        instructions = self.program.instructions.get(self.device, [])
        for at, instruction in enumerate(instructions):
            waits = [(v, pending.pop(v)) for v in uses(instruction, self.shared) if v in pending]
            if isinstance(instruction, Recv):
                pending[instruction.value, instruction.microbatch] = instruction.source
            result.append((instruction, waits, freed_behind(instructions, at)))
        result += [(Recv(v, s, k), [((v, k), s)], set()) for (v, k), s in pending.items()]  # outputs that end here
        return result

    def _step(self, instruction: Instruction, waits: list[tuple[Instance, str]], freed: set[Instance]) -> Step:
        action = self._action(instruction, freed)
        timed = not isinstance(instruction, (Free, Recv))
        device = self.device

        def step(call: Call, env: Env) -> None:
            for instance, source in waits:
                if instance not in env:
                    self._wait(call, env, instance, source)
            if timed:
                start = perf_counter()
                action(call, env)
                call.events[device].append((instruction, start, perf_counter()))
            else:
                action(call, env)

        return step

    def _wait(self, call: Call, env: Env, instance: Instance, source: str) -> None:
        """Take what a source sends until the value that is needed has come."""
        start = perf_counter()
        channel, courier = call.channels[source, self.device], self.receivers[source]
        while instance not in env:
            item = channel.get(block=call.blocking)
            if item is ABORT:
                raise Aborted
            name, parcel = item
            env[name] = courier.receive(parcel)
        call.events[self.device].append((Recv(instance[0], source, instance[1]), start, perf_counter()))

    def _action(self, instruction: Instruction, freed: set[Instance]) -> Step:
        match instruction:
            case Run():
                return self._run(instruction, freed)
            case Send():
                return self._send(instruction)
            case Recv():
                return lambda call, env: None  # whoever uses the value first waits for it
            case Free():
                key = (instruction.value, instruction.microbatch)
                return lambda call, env: env.__delitem__(key) if key in env else None
            case Update():
                return self._update(instruction)
            case Accumulate():
                return self._accumulate(instruction, freed)
            case Reduce():
                raise ProgramError(f"'{instruction}': collectives do not run in one process")

    def _run(self, run: Run, freed: set[Instance]) -> Step:
        kernel, k = self._kernel(run), run.microbatch
        taken, given = uses(run, self.shared), makes(run)
        take = [(i in freed, i) for i in taken]

        def action(call: Call, env: Env) -> None:
            args = [env.pop(i) if last else env[i] for last, i in take]
            results = kernel(args, call.seed + k)
            env.update(zip(given, results, strict=True))

        return action

    def _kernel(self, run: Run) -> Kernel:
        """What runs a segment: the same for all micro-batches."""
        if run.segment not in self.kernels:
            ops = [self.ops[name] for name in self.program.segments[run.segment].ops]
            self.kernels[run.segment] = self.make(self.graph, ops, run, self.torch_device, self.device, self.keys)
        return self.kernels[run.segment]

    def _send(self, send: Send) -> Step:
        key, route = (send.value, send.microbatch), (self.device, send.to)
        courier, copy = self.couriers[send.to], self._overwritten(send.value)

        def action(call: Call, env: Env) -> None:
            parcel: Parcel = courier.send(env[key], copy)
            call.channels[route].put((key, parcel))

        return action

    def _overwritten(self, value: str) -> bool:
        """Whether the program writes to the memory of a value: then what is sent must be a copy."""
        slot = self.program.values[value]
        return bool(self.updated & {value, slot.base})

    def _alone(self, value: str) -> bool:
        """Whether nothing else that an instruction touches stands in the memory of a value."""
        root = self._root(value)
        return root not in self.program.inputs and self.touched.get(root, set()) <= {value}

    @cached_property
    def touched(self) -> dict[str, set[str]]:
        """Value -> the values that instructions touch and that stand in its memory."""
        standing: dict[str, set[str]] = {}
        for _, instruction in self.program:
            for name, _ in (*uses(instruction), *makes(instruction)):
                if not isinstance(instruction, Free):
                    standing.setdefault(self._root(name), set()).add(name)
        return standing

    def _root(self, value: str) -> str:
        slot = self.program.values[value]
        return value if slot.base is None else slot.base

    def _update(self, update: Update) -> Step:
        state, key = uses(update, self.shared)

        def action(call: Call, env: Env) -> None:
            try:
                overwrite(call.originals[state], env[key])
            except Exception as error:
                raise op_error(self._writer(update.state), self.device, error) from error

        return action

    def _writer(self, state: str) -> Any:
        return next((op for op in self.graph.ops if state in op.mutates), None)

    def _accumulate(self, accumulate: Accumulate, freed: set[Instance]) -> Step:
        """Add to the sum, in place: its memory is its own, which that of a gradient need not be."""
        key, into = (accumulate.value, accumulate.microbatch), (accumulate.into, 0)
        adopt = key in freed and self._alone(accumulate.value)

        def action(call: Call, env: Env) -> None:
            if into in env:
                env[into].add_(env[key])
            else:
                env[into] = env[key] if adopt else env[key].clone()

        return action
