"""Executable: a program that can be called, its devices' lists run by this thread or by one each."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from torchplace.compiler.dynamo import below_autograd, dispatch_modes_active
from torchplace.compiler.graph import Graph, Output
from torchplace.compiler.instructions import Accumulate, Instruction, Send
from torchplace.compiler.lifetimes import Instance, active_devices
from torchplace.compiler.program import Exit, Program
from torchplace.errors import ExecutionError
from torchplace.placement.timeline import Event, Timeline
from torchplace.runtime.accelerator import is_accelerator, on_device, visit
from torchplace.runtime.affinity import deal_cores, kept_to
from torchplace.runtime.interpreter import Aborted, Behind, Call, DeviceProgram, Env
from torchplace.runtime.scripted import make_scripted
from torchplace.runtime.transport import bring
from torchplace.runtime.workers import Job

if TYPE_CHECKING:
    from torchplace.runtime.local import LocalRuntime

Record = tuple[float, dict[str, list[tuple[Instruction, float, float]]]]
"""When a program began, and what each of its devices did from when to when, in `perf_counter` seconds."""


class Executable:
    """A program that can be called: with the graph's inputs in order, it returns the graph's outputs."""

    interpreter: type[DeviceProgram] = DeviceProgram

    def __init__(self, runtime: LocalRuntime, program: Program, graph: Graph, keys: Mapping[str, str] | None) -> None:
        self.runtime, self.program, self.graph = runtime, program, graph
        self.home = torch.device(graph.home)
        # Threads that CPU devices share are dealt out among those that compute in this program.
        self.topology = runtime.topology.used(active_devices(program))
        self.cores = deal_cores(self.topology, active_devices(program))
        self.active = self._active()
        self.random = any(op.random for op in graph.ops)
        known = dict(graph.keys()) if self.random else {}
        known.update(keys or {})
        self.devices = {d: self._prepared(d, known) for d in self.active}
        self.inputs = [v for v in graph.inputs if v.kind != "constant"]
        self.updated = {n for d in self.devices.values() for n in d.updated}
        self.summed = {i.into: d for d, i in program if isinstance(i, Accumulate)}
        self.routes = sorted({(d, i.to) for d, i in program if isinstance(i, Send)})
        self.constants = {n: self._on(t, program.inputs[n].device) for n, t in graph.constants.items()}
        self.ends = [self._end(o) for o in graph.outputs]
        self.accelerators = [d for d in map(runtime.torch_devices.__getitem__, self.active) if is_accelerator(d)]
        self._last: Record | None = None

    def _prepared(self, device: str, keys: Mapping[str, str]) -> DeviceProgram:
        """A device's list, its segments compiled for as many threads as it has."""
        make = make_scripted
        if self.runtime.codegen == "inductor":
            from torchplace.runtime.inductor import make_compiled as make  # takes seconds to import
        with self._threads(device, torch.get_num_threads()):
            return self.interpreter(self.program, self.graph, device, self.runtime.torch_devices, keys, make)

    def _active(self) -> list[str]:
        """The devices that this process runs."""
        return [d for d in self.program.devices if self.program.instructions[d] or self._ends_on(d)]

    def holds(self, device: str) -> bool:
        """Whether what is on a device is in this process."""
        return True

    def _end(self, output: Output) -> torch.device | None:
        """Where the caller expects an output; None for where the program leaves it."""
        if output.device:
            return torch.device(output.device)
        return self.home if output.kind == "output" else None

    def _ends_on(self, device: str) -> bool:
        starts = {e.device for e in self.program.inputs.values()}
        return device in starts or any(e.device == device for e in self.program.outputs)

    def __call__(self, args: list[Any]) -> list[Any]:
        """Run it.

        Args:
            args: the graph's inputs in order; the list is emptied, so that memory can be freed early.

        Returns:
            The outputs, in order.

        Raises:
            ExecutionError: an op failed; names it, its source line and its device. The next call works.
        """
        given = {(value.name, 0): arg for value, arg in zip(self.inputs, args, strict=True)}
        args.clear()
        return [made[0] for made in self.run(given)]

    def run(self, given: dict[Instance, Any], behind: Mapping[str, Behind] | None = None) -> list[list[Any]]:
        """Run it with all its micro-batches.

        Args:
            given: (name, micro-batch) -> input; state counts as the first one's. Sums of gradients may be given, too,
                which are then added to, in place. The dict is emptied.
            behind: device -> what it does when it has done all else, while others may still be at work.

        Returns:
            For every output, in order, one of each micro-batch, or a single one where it stands for all.

        Raises:
            ExecutionError: an op failed; names it, its source line and its device. The next call works.
        """
        call, envs = self._start(given)
        call.behind = behind or {}
        caller = visit(self.accelerators)
        caller.begin(v for env in envs.values() for v in env.values())
        begun = perf_counter()
        if self._in_this_thread():
            with caller.ours():
                self._run_here(call, envs)
        else:
            self._run_on_workers(call, envs)
        self._last = begun, call.events
        if self.runtime.on_run is not None:
            self.runtime.on_run(self, self._last)
        caller.end(v for env in envs.values() for v in env.values())
        return self._finish(envs)

    def _in_this_thread(self) -> bool:
        """Whether the caller's thread runs all devices, in turn."""
        return len(self.active) <= 1 or dispatch_modes_active() or self.runtime.workers.mine()

    def _start(self, inputs: dict[Instance, Any]) -> tuple[Call, dict[str, Env]]:
        envs: dict[str, Env] = {d: {} for d in self.active}
        inputs.update(
            ((name, 0), t) for name, t in self.constants.items() if self.holds(self.program.inputs[name].device)
        )
        originals = {instance: arg for instance, arg in inputs.items() if instance[0] in self.updated}
        for (name, k), arg in inputs.items():
            device = self.summed[name] if name in self.summed else self.program.inputs[name].device
            envs[device][name, k] = self._on(arg, device)
        inputs.clear()
        seed = int(torch.randint(2**62, ())) if self.random else 0
        call = Call(seed, {r: queue.SimpleQueue() for r in self.routes}, originals)
        call.events = {d: [] for d in self.active}
        return call, envs

    def _on(self, value: Any, device: str) -> Any:
        """An input where the program expects it: the caller's tensors may be elsewhere.

        What eager has on the CPU in a graph that is at home on an accelerator is left there.
        """
        target = self.runtime.torch_devices[device]
        if (
            not isinstance(value, torch.Tensor)
            or value.device == target
            or value.device.type == "cpu" != self.home.type
        ):
            return value
        return bring(value, target)

    def _run_here(self, call: Call, envs: dict[str, Env]) -> None:
        """Run every device in this thread, each as far as it can go, till all are done."""
        call.blocking = False
        at = dict.fromkeys(self.active, 0)
        with torch.no_grad(), below_autograd():
            while any(at[d] < len(self.devices[d].steps) for d in self.active):
                before = dict(at)
                for device in self.active:
                    at[device] = self._advance(device, at[device], call, envs[device])
                if at == before:
                    raise ExecutionError(f"program {self.program.name!r}: no device can go on (a fault of lowering)")
            for device in self.active:
                with on_device(self.runtime.torch_devices[device]):
                    self._ended(device, call, envs[device])

    def _advance(self, device: str, at: int, call: Call, env: Env) -> int:
        steps = self.devices[device].steps
        with on_device(self.runtime.torch_devices[device]), self._threads(device, torch.get_num_threads()):
            for i in range(at, len(steps)):
                try:
                    steps[i](call, env)
                except queue.Empty:
                    return i
        return len(steps)

    def _run_on_workers(self, call: Call, envs: dict[str, Env]) -> None:
        """Run devices in their workers, the first one here if it is a CPU; the first that fails stops the others.

        So the caller need not be woken by another thread, which would leave it, with the threads that its own ops run
        on, on the core of whoever woke it, and the rest of the cores idle for a while.
        """
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        mine = self.active[:1] if self.runtime.torch_devices[self.active[0]].type == "cpu" else []
        others = self.active[len(mine) :]
        caller = torch.get_num_threads(), torch.is_inference_mode_enabled()
        self.runtime.workers.submit({d: self._job(d, call, envs[d], done, caller) for d in others}, self.cores)
        failures = [self._run_mine(d, call, envs[d]) for d in mine]
        try:
            failures += [done.get() for _ in others]
        except BaseException:  # an interrupt: leave no worker waiting behind
            call.abort()
            raise
        real = [f for f in failures if f is not None and not isinstance(f, Aborted)]
        if real:
            raise real[0]

    def _run_mine(self, device: str, call: Call, env: Env) -> BaseException | None:
        """Run a device in this thread; returns what it failed with."""
        try:
            with kept_to(self.cores.get(device, frozenset())), torch.no_grad(), below_autograd():
                self._steps(device, call, env, torch.get_num_threads())
        except Exception as error:
            call.abort()
            return error
        except BaseException:
            call.abort()
            raise
        return None

    def _job(
        self,
        device: str,
        call: Call,
        env: Env,
        done: queue.SimpleQueue[BaseException | None],
        caller: tuple[int, bool],
    ) -> Job:
        def job() -> None:
            outcome: BaseException | None = None
            try:
                # `_InferenceMode(False)` would switch autograd on again.
                with torch._C._InferenceMode(True) if caller[1] else nullcontext():
                    self._steps(device, call, env, caller[0])
            except BaseException as error:
                outcome = error
                call.abort()
            done.put(outcome)

        return job

    def _steps(self, device: str, call: Call, env: Env, threads: int) -> None:
        with on_device(self.runtime.torch_devices[device]), self._threads(device, threads):
            for step in self.devices[device].steps:
                step(call, env)
            self._ended(device, call, env)

    def _ended(self, device: str, call: Call, env: Env) -> None:
        """Do what is behind a device's list."""
        if device in call.behind:
            call.behind[device](env)

    @contextmanager
    def _threads(self, device: str, callers: int) -> Iterator[None]:
        """Within, ops of this thread run on as many intra-op threads as a device has; else on the caller's."""
        before, wanted = torch.get_num_threads(), self.topology.device(device).threads or callers
        if before != wanted:
            torch.set_num_threads(wanted)
        try:
            yield
        finally:
            if before != wanted:
                torch.set_num_threads(before)

    def _finish(self, envs: dict[str, Env]) -> list[list[Any]]:
        return [
            [output.value] if exit_.value is None else [_at(value, end) for value in self._made(envs, output, exit_)]
            for output, exit_, end in zip(self.graph.outputs, self.program.outputs, self.ends, strict=True)
        ]

    def _made(self, envs: dict[str, Env], output: Output, end: Exit) -> list[Any]:
        """What has been made of an output, of each micro-batch or of all."""
        return [envs[end.device][end.value, k] for k in self.program.instances(end) if end.value is not None]

    @property
    def timeline(self) -> Timeline:
        """What ran in the last call, and when."""
        return Timeline() if self._last is None else timeline_of(self._last)


def _at(value: Any, end: torch.device | None) -> Any:
    """An output where the caller expects it."""
    return bring(value, end) if end is not None and isinstance(value, torch.Tensor) and value.device != end else value


def timeline_of(record: Record) -> Timeline:
    """The timeline of a run."""
    begun, events = record
    happened = [Event(d, i, start - begun, end - begun) for d, recorded in events.items() for i, start, end in recorded]
    return Timeline(sorted(happened, key=lambda e: e.start))
