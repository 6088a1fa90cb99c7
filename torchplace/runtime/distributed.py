"""One process for each device: each rank runs its own list of a program, and torch.distributed moves what goes between.

The ranks are started by torchrun. Between accelerators values go by their own backend of torch.distributed, such as
NCCL. Else they go through the host: between ranks of one host through memory that they share, between hosts over gloo.
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
from functools import cached_property
from time import sleep
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from torchplace.compiler.dynamo import below_autograd
from torchplace.compiler.graph import Graph, Output
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Send, brief
from torchplace.compiler.lifetimes import Instance
from torchplace.compiler.program import Exit, Program
from torchplace.compiler.verify import verify
from torchplace.errors import OptionError, RankError
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.accelerator import own_device
from torchplace.runtime.interpreter import ABORT, Aborted, Behind, Call, DeviceProgram, Env, Step
from torchplace.runtime.links import Links
from torchplace.runtime.local import Executable, LocalRuntime
from torchplace.runtime.mail import Expected, GroupPost, Inbox, Outbox, Posts, SharedPost
from torchplace.runtime.neighbours import Neighbours
from torchplace.runtime.ranks import initialise
from torchplace.runtime.watch import Watch
from torchplace.runtime.wire import Wire

_POLL = 0.02

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
            TopologyError: not all ranks came.
        """
        if not dist.is_initialized():
            initialise(max(10 * timeout, 300.0), "gloo")
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
        hear = functools.partial(self.hear, doing="meeting")
        self.neighbours = Neighbours(self.rank, size, self.store.set, hear, timeout)
        self.links = Links(self)
        atexit.register(self._leave)
        self._outboxes: dict[int, Outbox] = {}
        self._inboxes: dict[int, Inbox] = {}

    def prepare(self, program: Program, graph: Graph, keys: Mapping[str, str] | None = None) -> RankExecutable:
        """Verify a program and compile this rank's segments."""
        verify(program)
        self.links.connect(program)
        return RankExecutable(self, program, graph, keys)

    def outbox(self, device: str) -> Outbox:
        """What sends to the rank of a device."""
        rank = self.names.index(device)
        if rank not in self._outboxes:
            self._outboxes[rank] = Outbox(rank, self._posts(rank), self._lost)
        return self._outboxes[rank]

    def inbox(self, device: str) -> Inbox:
        """What receives from the rank of a device."""
        rank = self.names.index(device)
        if rank not in self._inboxes:
            self._inboxes[rank] = Inbox(rank, self._posts(rank), self._lost)
        return self._inboxes[rank]

    def _posts(self, rank: int) -> Posts:
        near = rank in self.neighbours.ranks
        host = SharedPost(rank, self.neighbours) if near else GroupPost(rank, self.group)
        return Posts(host, self.links.post(rank), self.links.device)

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

    def hear(self, key: str, rank: int, doing: str) -> str:
        """Wait for a note that a rank leaves in the job's store.

        Raises:
            RankError: a rank has failed meanwhile.
        """
        self.watch.at(doing, rank)
        while not self.store.check([key]):
            if self.watch.reason:
                raise self.watch.error()
            sleep(_POLL)
        self.watch.at("")
        return self.store.get(key).decode()

    def exchange(self, row: torch.Tensor, doing: str) -> list[torch.Tensor]:
        """What each rank gives, by rank: rows of numbers, of the same length and type everywhere.

        Raises:
            RankError: another rank has failed.
        """
        wire = Wire.like(row)
        others = [rank for rank in range(len(self.names)) if rank != self.rank]
        came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for rank in others:
            self.inbox(self.names[rank]).expect([(rank, wire)], came)
            self.outbox(self.names[rank]).put(wire.pack(row))
        rows: dict[Any, Any] = {self.rank: row.cpu()}
        self.take(came, {rank: rank for rank in others}, rows, doing)
        self.drain()
        self.watch.at("")
        return [rows[rank] for rank in range(len(self.names))]

    def take(
        self, channel: queue.SimpleQueue[Any], awaited: Mapping[Any, int], into: dict[Any, Any], doing: str
    ) -> None:
        """Take values that other ranks send, as they come.

        Args:
            channel: into which they come.
            awaited: what they are called -> the rank that sends it.
            into: what they are called -> the value; is filled.
            doing: what this is, for who watches.

        Raises:
            RankError: another rank has failed.
        """
        abort, left = functools.partial(channel.put, ABORT), dict(awaited)
        self.watch.listen(abort)
        try:
            while left:
                self.watch.at(doing, next(iter(left.values())))
                item = channel.get()
                if item is ABORT:
                    raise self.watch.error()
                name, parcel = item
                into[name] = parcel.tensor
                del left[name]
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
        self.links.end()

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
        key = send.value, send.microbatch
        copy = send.value in self.added or self._overwritten(send.value)

        def action(call: Call, env: Env) -> None:
            wire = self.wires[send.value]
            row = wire.pack(env[key])
            self.runtime.outbox(send.to).put(row.clone() if copy else row, wire.direct)

        return action

    @cached_property
    def added(self) -> set[str]:
        """What is added to a sum, perhaps in its own memory."""
        return {i.value for _, i in self.program if isinstance(i, Accumulate)}

    @cached_property
    def wires(self) -> Wires:
        """How values go to and from other ranks."""
        return Wires(self.graph, self.program, self.torch_device, bool(self.runtime.links.backend))


class Wires(dict[str, Wire]):
    """Name of a value, or of a gradient's sum -> how it goes; made when it is asked for."""

    def __init__(self, graph: Graph, program: Program, device: torch.device, direct: bool) -> None:
        """Of values that arrive on `device`, directly or through the host."""
        super().__init__()
        self._device, self._direct, self._values = device, direct, graph.values
        self._terms = {i.into: i.value for _, i in program if isinstance(i, Accumulate)}

    def __missing__(self, name: str) -> Wire:
        self[name] = Wire(self._values[self._terms.get(name, name)].type, self._device, self._direct)
        return self[name]


class RankExecutable(Executable):
    """This rank's part of a program."""

    interpreter = RankProgram
    runtime: DistributedRuntime

    def __init__(
        self, runtime: DistributedRuntime, program: Program, graph: Graph, keys: Mapping[str, str] | None
    ) -> None:
        super().__init__(runtime, program, graph, keys)
        self.mine = runtime.device
        (mine,) = self.devices.values()
        assert isinstance(mine, RankProgram)
        mine.runtime = runtime
        self.wires = mine.wires
        # What every rank gets goes through the host: few bytes, on ways that need not be there for anything else.
        self.output_wires = Wires(graph, program, mine.torch_device, direct=False)
        self.given = {n for n, e in program.inputs.items() if e.device == self.mine}
        self.given |= {n for n, device in self.summed.items() if device == self.mine}
        self.shared = self._shared_outputs()
        self.expected = self._expectations()

    def _active(self) -> list[str]:
        assert isinstance(self.runtime, DistributedRuntime)
        return [self.runtime.device]

    def _expectations(self) -> dict[str, list[Expected]]:
        """Source -> what it sends here in a run, in order: the program's values, then the outputs that all get."""
        expected: dict[str, list[Expected]] = {}
        for i in self.program.instructions.get(self.mine, ()):
            if isinstance(i, Recv):
                expected.setdefault(i.source, []).append(((i.value, i.microbatch), self.wires[i.value]))
        for source, instances in self.shared.items():
            if source != self.mine:
                expected.setdefault(source, []).extend((i, self.output_wires[i[0]]) for i in instances)
        return expected

    def _shared_outputs(self) -> dict[str, list[Instance]]:
        """Device -> the outputs that end there and that every rank gets, each once: those that are the model's."""
        found: dict[str, dict[Instance, None]] = {}
        for output, end in zip(self.graph.outputs, self.program.outputs, strict=True):
            if output.kind == "output" and end.value is not None:
                instances = ((end.value, k) for k in self.program.instances(end))
                found.setdefault(end.device, {}).update(dict.fromkeys(instances))
        return {device: list(instances) for device, instances in found.items()}

    def holds(self, device: str) -> bool:
        """Whether what is on a device is here."""
        return device == self.mine

    def run(self, given: dict[Instance, Any], behind: Mapping[str, Behind] | None = None) -> list[list[Any]]:
        """Run this rank's part; outputs of the model come to every rank, gradients stay where their parameters are.

        Raises:
            RankError: a rank has failed, died or hangs; on all ranks.
        """
        with self.runtime.all_fail(self.mine):
            results = super().run(given, behind)
            self.runtime.drain()
            return results

    def _start(self, inputs: dict[Instance, Any]) -> tuple[Call, dict[str, Env]]:
        call, envs = super()._start({key: value for key, value in inputs.items() if key[0] in self.given})
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
            self._take_shared(call, envs[self.mine])
        finally:
            self.runtime.watch.ignore(call.abort)

    def _ended(self, device: str, call: Call, env: Env) -> None:
        """Send first what others wait for: the outputs that are here."""
        for instance in self.shared.get(self.mine, ()):
            row = self.output_wires[instance[0]].pack(env[instance])
            for device in self.runtime.names:
                if device != self.mine:
                    self.runtime.outbox(device).put(row)
        super()._ended(device, call, env)

    def _take_shared(self, call: Call, env: Env) -> None:
        """Take the outputs that are not here."""
        for source, instances in self.shared.items():
            if source != self.mine:
                awaited = dict.fromkeys(instances, self.runtime.names.index(source))
                self.runtime.take(call.channels[source, self.mine], awaited, env, "outputs")

    def _made(self, envs: dict[str, Env], output: Output, end: Exit) -> list[Any]:
        """What has been made of an output; nothing where it is another rank's."""
        is_here = output.kind == "output" or end.device == self.mine
        return super()._made({end.device: envs[self.mine]}, output, end) if is_here else []
