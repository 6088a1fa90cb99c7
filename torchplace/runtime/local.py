"""The local runtime: one process, a worker thread for each device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from torchplace.compiler.graph import Graph
from torchplace.compiler.program import Program
from torchplace.compiler.verify import verify
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.allocator import keep_freed_memory
from torchplace.runtime.executable import Executable, Record
from torchplace.runtime.workers import Workers


class LocalRuntime:
    """Runs programs on the devices of a topology, in this process."""

    def __init__(self, topology: Topology, torch_devices: Mapping[str, torch.device] | None = None) -> None:
        """Prepare to run on `topology`; `torch_devices` stand in for its own when a plan is rehearsed."""
        self.topology = topology
        own = {d.name: torch.device(d.torch_device) for d in topology.devices}
        self.torch_devices = dict(torch_devices or own)
        self.codegen = "eager"
        self.on_run: Callable[[Executable, Record], None] | None = None
        if any(device.type == "cpu" for device in self.torch_devices.values()):
            keep_freed_memory()
        self.workers = Workers()

    def prepare(self, program: Program, graph: Graph, keys: Mapping[str, str] | None = None) -> Executable:
        """Verify a program and compile its segments.

        Args:
            program: lowered from `graph`, for this topology.
            graph: the ops.
            keys: op name -> structural key of the whole captured graph, where `graph` is a part of it.

        Raises:
            ProgramError: the program has faults.
        """
        verify(program)
        return Executable(self, program, graph, keys)
