"""How long a value takes from one device of this process to another, as the local runtime hands it over."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from torchplace.compiler.graph import Graph, Value
from torchplace.compiler.instructions import Free, Instruction, Recv, Send
from torchplace.compiler.program import Entry, Program, Slot
from torchplace.compiler.types import TensorType
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.accelerator import copy_seconds
from torchplace.runtime.local import LocalRuntime
from torchplace.runtime.transport import same_memory

COPIED = (1, 64, 256, *(1 << k for k in range(9, 27)))
"""Bytes of the copies that are measured between devices that share no memory."""
REFERENCED = (1, 1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 26)
"""Bytes of the values that are handed over between CPU devices: only a reference is, so few sizes tell it."""
_THERE_AND_BACK, _CALLS, _COPIES = 20, 10, 15
_LEAST = 1e-7  # seconds; a receiver may be awake before the sender has gone on


def hand_overs(topology: Topology, source: str, target: str) -> dict[int, list[float]]:
    """Bytes -> seconds of transfers from one device to another, with nobody else on the way."""
    here, there = (torch.device(topology.device(name).torch_device) for name in (source, target))
    if not same_memory(here, there):
        return {nbytes: copy_seconds(here, there, nbytes, _COPIES) for nbytes in COPIED}
    runtime = LocalRuntime(topology)
    return {nbytes: _referenced(runtime, source, target, nbytes) for nbytes in REFERENCED}


def _referenced(runtime: LocalRuntime, source: str, target: str, nbytes: int) -> list[float]:
    """Seconds from the end of a send to the wake-up of its receiver, in a program that does nothing else.

    What the send itself takes is told apart, as what the host adds (`Host.send`).
    """
    program, graph = _to_and_fro(runtime.topology, source, target, nbytes)
    executable, value = runtime.prepare(program, graph), torch.zeros(nbytes, dtype=torch.uint8)
    found: list[float] = []
    for i in range(_CALLS + 1):
        executable([value] * len(graph.inputs))
        if i:
            found += _taken(executable.timeline, source, target)
    return found


def _to_and_fro(topology: Topology, source: str, target: str, nbytes: int) -> tuple[Program, Graph]:
    """A program that sends a value there, waits for another that comes back, and so on."""
    program, graph = Program("hand-over", topology.device_names), Graph("hand-over")
    lists: dict[str, list[Instruction]] = {name: [] for name in topology.device_names}
    program.instructions = lists
    for i in range(_THERE_AND_BACK):
        for sender, receiver in ((source, target), (target, source)):
            name = f"{sender}.{i}"
            graph.inputs.append(Value(name, TensorType("uint8", (nbytes,))))
            program.values[name], program.inputs[name] = Slot(nbytes), Entry(sender, resident=True)
            lists[sender].append(Send(name, receiver))
            # A free is the first use: here the receiver waits.
            lists[receiver] += [Recv(name, sender), Free(name)]
    return program, graph


def _taken(timeline: Timeline, source: str, target: str) -> Iterator[float]:
    sent = {e.instruction.value: e for e in timeline.of(source) if isinstance(e.instruction, Send)}
    for event in timeline.of(target):
        if isinstance(event.instruction, Recv):
            send = sent[event.instruction.value]
            if event.start < send.start:  # who did not wait for it has had it before
                yield max(_LEAST, event.end - send.end)
