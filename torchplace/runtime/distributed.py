"""One process for each device: each rank runs its own list of a program, and torch.distributed moves what goes between.

The ranks are started by torchrun. Values go through the host, over gloo or whatever backend the CPU's group has; so do
those of accelerators, which are staged there.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import queue
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from torchplace.compiler.dynamo import below_autograd
from torchplace.compiler.graph import Graph, Value
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Send, brief
from torchplace.compiler.lifetimes import Instance
from torchplace.compiler.program import Program
from torchplace.compiler.types import TensorType
from torchplace.compiler.verify import verify
from torchplace.errors import OptionError, RankError
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.accelerator import Parcel, own_device
from torchplace.runtime.interpreter import ABORT, Aborted, Call, DeviceProgram, Env, Step
from torchplace.runtime.local import Executable, LocalRuntime
from torchplace.runtime.mail import Expected, Inbox, Outbox
from torchplace.runtime.watch import Watch
from torchplace.runtime.wire import Wire

FAULT_TIMEOUT = 30.0
"""Seconds after which a rank that does not go on counts as hanging."""


class DistributedRuntime(LocalRuntime):
    """Runs this rank's part of programs.

    Attributes:
        rank: of this process; it runs the topology's device of this number.
        device: the name of that.
        watch: over all ranks.
        store: of the job, for notes that ranks leave each other.
    """

    def __init__(self, topology: Topology, timeout: float = FAULT_TIMEOUT) -> None:
        """Meet the other ranks.

        Args:
            topology: with a device for each rank.
            timeout: seconds after which a rank that does not go on counts as hanging.

        Raises:
            OptionError: the topology has another number of devices than there are ranks.
        """
        _initialise(timeout)
        self.rank, size = dist.get_rank(), dist.get_world_size()
        if size != len(topology.devices):
            raise OptionError(
                f"topology {topology.name!r} has {len(topology.devices)} devices, and there are {size} ranks; expected "
                "as many: start one process for each device, or pass a topology that has a device for each rank"
            )
        here = own_device()
        super().__init__(topology, dict.fromkeys(topology.device_names, here))
        self.names = topology.device_names
        self.device = self.names[self.rank]
        store = distributed_c10d._get_default_store()
        count = store.add(f"torchplace/runtime/{self.rank}", 1)
        self.store = distributed_c10d.PrefixStore(f"torchplace/{count}", store)
        watched = distributed_c10d.PrefixStore(f"torchplace/{count}", store.clone())  # type: ignore[attr-defined]  # not in the stub
        self.watch = Watch(watched, self.rank, size, timeout)
        self.group = _host_group()
        atexit.register(self._leave)
        self._outboxes: dict[int, Outbox] = {}
        self._inboxes: dict[int, Inbox] = {}

    def prepare(self, program: Program, graph: Graph, keys: Mapping[str, str] | None = None) -> RankExecutable:
        """Verify a program and compile this rank's segments."""
        verify(program)
        return RankExecutable(self, program, graph, keys)

    def outbox(self, device: str) -> Outbox:
        """What sends to the rank of a device."""
        rank = self.names.index(device)
        if rank not in self._outboxes:
            self._outboxes[rank] = Outbox(rank, self.group, self._lost)
        return self._outboxes[rank]

    def inbox(self, device: str) -> Inbox:
        """What receives from the rank of a device."""
        rank = self.names.index(device)
        if rank not in self._inboxes:
            self._inboxes[rank] = Inbox(rank, self.group, self._lost)
        return self._inboxes[rank]

    def drain(self) -> None:
        """Wait until all that was to be sent has been.

        Raises:
            RankError: another rank has failed meanwhile.
        """
        for rank, outbox in self._outboxes.items():
            self.watch.at("sending", rank)
            while not outbox.drained(0.5):
                if self.watch.reason:
                    raise self.watch.error()

    def exchange(self, row: torch.Tensor, doing: str) -> list[torch.Tensor]:
        """What each rank gives, by rank: rows of numbers, of the same length and type everywhere.

        Raises:
            RankError: another rank has failed.
        """
        wire = Wire(TensorType(str(row.dtype).removeprefix("torch."), tuple(row.shape)), torch.device("cpu"))
        others = [rank for rank in range(len(self.names)) if rank != self.rank]
        came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for rank in others:
            self.inbox(self.names[rank]).expect([(rank, wire)], came)
            self.outbox(self.names[rank]).put(wire.pack(row))
        rows: dict[Any, Any] = {self.rank: row.cpu()}
        self.take(came, len(others), rows, doing)
        self.drain()
        self.watch.at("")
        return [rows[rank] for rank in range(len(self.names))]

    def take(self, channel: queue.SimpleQueue[Any], count: int, into: dict[Any, Any], doing: str) -> None:
        """Take so many named values that other ranks send, as they come.

        Raises:
            RankError: another rank has failed.
        """
        abort = functools.partial(channel.put, ABORT)
        self.watch.listen(abort)
        try:
            for _ in range(count):
                self.watch.at(doing, (self.rank + 1) % len(self.names))
                item = channel.get()
                if item is ABORT:
                    raise self.watch.error()
                into[item[0]] = item[1].tensor
        finally:
            self.watch.ignore(abort)

    def _leave(self) -> None:
        """End the watch; or, once something has failed, this process, without Python's own end.

        A thread of ours may still be in torch.distributed, waiting for a rank that sends no more. It cannot be woken,
        and Python, at its end, would unwind it in the midst of C++, which aborts the process.
        """
        if self.watch.reason:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        self.watch.stop()
        for outbox in self._outboxes.values():
            outbox.end()
        for inbox in self._inboxes.values():
            inbox.end()

    @contextmanager
    def all_fail(self, what: str) -> Iterator[None]:
        """Within, what goes wrong on this rank is told to all, and what has gone wrong elsewhere is raised.

        Raises:
            RankError: a rank has failed, died or hangs; the same on all ranks.
        """
        watch, cause = self.watch, None
        if watch.reason:
            raise watch.error()
        try:
            yield
        except RankError:
            raise
        except Aborted:
            pass
        except Exception as error:
            cause = error
            text = " ".join(str(error).split()) or type(error).__name__
            watch.fail(f"rank {self.rank} ({what}) failed at '{watch.doing}': {text}")
        finally:
            watch.at("")
        if cause is not None or watch.reason:
            raise watch.error() from cause

    def _lost(self, rank: int, error: BaseException) -> None:
        text = " ".join(str(error).split())
        doing = self.watch.doing or "between steps"
        self.watch.fail(
            f"rank {rank} ({self.names[rank]}) is lost: rank {self.rank} found so at '{doing}': {text[:200]}"
        )


def _initialise(timeout: float) -> None:
    if dist.is_initialized():
        return
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise OptionError(f"this is a rank of several, but {', '.join(missing)} is not set; start it with torchrun")
    dist.init_process_group("gloo", timeout=timedelta(seconds=max(10 * timeout, 300.0)))


def _host_group() -> dist.ProcessGroup:
    """A group of all ranks that moves what is in host memory."""
    world = dist.group.WORLD
    assert world is not None
    if "gloo" in str(dist.get_backend_config()):
        return world
    group: dist.ProcessGroup = dist.new_group(backend="gloo")
    return group


class RankProgram(DeviceProgram):
    """This rank's list, prepared."""

    runtime: DistributedRuntime  # set before the first call

    def _step(self, instruction: Instruction, waits: list[tuple[Instance, str]], freed: set[Instance]) -> Step:
        step = super()._step(instruction, waits, freed)
        if isinstance(instruction, Free):
            return step
        text = brief(instruction)

        def told(call: Call, env: Env) -> None:
            self.runtime.watch.at(text)
            step(call, env)

        return told

    def _wait(self, call: Call, env: Env, instance: Instance, source: str) -> None:
        watch = self.runtime.watch
        doing = watch.doing
        watch.at(doing, self.runtime.names.index(source))
        super()._wait(call, env, instance, source)
        watch.at(doing)

    def _send(self, send: Send) -> Step:
        key, wire = (send.value, send.microbatch), Wire(_type_of(self.graph, send.value), self.torch_device)
        added = any(isinstance(i, Accumulate) and i.value == send.value for _, i in self.program)
        copy = added or self._overwritten(send.value)

        def action(call: Call, env: Env) -> None:
            row = wire.pack(env[key])
            self.runtime.outbox(send.to).put(row.clone() if copy else row)

        return action


def _type_of(graph: Graph, name: str) -> Any:
    values = graph.values
    return values[name if name in values else name.rpartition(".sum")[0]].type


class RankExecutable(Executable):
    """This rank's part of a program."""

    interpreter = RankProgram
    runtime: DistributedRuntime

    def __init__(
        self, runtime: DistributedRuntime, program: Program, graph: Graph, keys: Mapping[str, str] | None
    ) -> None:
        super().__init__(runtime, program, graph, keys)
        self.mine = runtime.device
        for prepared in self.devices.values():
            assert isinstance(prepared, RankProgram)
            prepared.runtime = runtime
        self.expected = self._expectations()

    def _active(self) -> list[str]:
        assert isinstance(self.runtime, DistributedRuntime)
        return [self.runtime.device]

    def _expectations(self) -> dict[str, list[Expected]]:
        """Source -> what it sends here in a run, in order: the program's values, then the outputs that all get."""
        here = self.runtime.torch_devices[self.mine]
        wires: dict[str, Wire] = {}

        def wire(name: str) -> Wire:
            if name not in wires:
                wires[name] = Wire(_type_of(self.graph, name), here)
            return wires[name]

        expected: dict[str, list[Expected]] = {}
        for i in self.program.instructions.get(self.mine, ()):
            if isinstance(i, Recv):
                expected.setdefault(i.source, []).append(((i.value, i.microbatch), wire(i.value)))
        for at, value, k in self._shared():
            source = self.program.outputs[at].device
            if source != self.mine:
                expected.setdefault(source, []).append(((f"output {at}", k), wire(value.name)))
        return expected

    def _shared(self) -> list[tuple[int, Value, int]]:
        """What every rank gets: place, value and micro-batch of the outputs that are the model's."""
        ends = zip(self.graph.outputs, self.program.outputs, strict=True)
        return [
            (i, o.value, k)
            for i, (o, end) in enumerate(ends)
            if o.kind == "output" and end.value is not None and isinstance(o.value, Value)
            for k in self.program.instances(end)
        ]

    def holds(self, device: str) -> bool:
        """Whether what is on a device is here."""
        return device == self.mine

    def run(self, given: dict[Instance, Any]) -> list[list[Any]]:
        """Run this rank's part; outputs of the model come to every rank, gradients stay where their parameters are.

        Raises:
            RankError: a rank has failed, died or hangs; on all ranks.
        """
        with self.runtime.all_fail(self.mine):
            results = super().run(given)
            self.runtime.drain()
            return results

    def _start(self, inputs: dict[Instance, Any]) -> tuple[Call, dict[str, Env]]:
        here = {n for n, e in self.program.inputs.items() if e.device == self.mine}
        here |= {n for n, device in self.summed.items() if device == self.mine}
        call, envs = super()._start({key: value for key, value in inputs.items() if key[0] in here})
        inputs.clear()
        for source, values in self.expected.items():
            channel = call.channels.setdefault((source, self.mine), queue.SimpleQueue())
            self.runtime.inbox(source).expect(values, channel)
        return call, envs

    def _in_this_thread(self) -> bool:
        return True

    def _run_here(self, call: Call, envs: dict[str, Env]) -> None:
        self.runtime.watch.listen(call.abort)
        try:
            with torch.no_grad(), below_autograd():
                self._steps(self.mine, call, envs[self.mine], torch.get_num_threads())
            self._share(call, envs[self.mine])
        finally:
            self.runtime.watch.ignore(call.abort)

    def _share(self, call: Call, env: Env) -> None:
        """Send the outputs that are here to all, and take those that are not."""
        for i, value, k in self._shared():
            end = self.program.outputs[i]
            assert end.value is not None
            if end.device == self.mine:
                row = Wire(value.type, self.runtime.torch_devices[self.mine]).pack(env[end.value, k])
                for device in self.runtime.names:
                    if device != self.mine:
                        self.runtime.outbox(device).put(row)
            else:
                self.runtime.watch.at("outputs", self.runtime.names.index(end.device))
                env[end.value, k] = self._take(call, end.device)

    def _take(self, call: Call, source: str) -> Any:
        item = call.channels[source, self.mine].get()
        if item is ABORT:
            raise Aborted
        parcel = item[1]
        assert isinstance(parcel, Parcel)
        return parcel.tensor

    def _finish(self, envs: dict[str, Env]) -> list[list[Any]]:
        env = envs[self.mine]
        shared = {i for i, _, _ in self._shared()}
        results: list[list[Any]] = []
        for i, (output, end) in enumerate(zip(self.graph.outputs, self.program.outputs, strict=True)):
            if end.value is None:
                results.append([output.value])
            elif i in shared or end.device == self.mine:
                results.append([env[end.value, k] for k in self.program.instances(end)])
            else:
                results.append([])
        return results
