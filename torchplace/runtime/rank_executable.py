"""A rank's part of a program: its own list, sends and receives through torch.distributed."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from torchplace.compiler.dynamo import below_autograd
from torchplace.compiler.graph import Graph, Output
from torchplace.compiler.instructions import Accumulate, Free, Instruction, Recv, Send, brief
from torchplace.compiler.lifetimes import Instance
from torchplace.compiler.program import Exit, Program
from torchplace.runtime.executable import Executable
from torchplace.runtime.interpreter import Behind, Call, DeviceProgram, Env, Step
from torchplace.runtime.mail import Expected
from torchplace.runtime.wire import OpenWire, Wire, wire_of

if TYPE_CHECKING:
    from torchplace.runtime.distributed import DistributedRuntime


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
            for row, direct in self.wires[send.value].rows(env[key]):
                self.runtime.outbox(send.to).put(row.clone() if copy else row, direct)

        return action

    @cached_property
    def added(self) -> set[str]:
        """What is added to a sum, perhaps in its own memory."""
        return {i.value for _, i in self.program if isinstance(i, Accumulate)}

    @cached_property
    def wires(self) -> Wires:
        """How values go to and from other ranks."""
        return Wires(self.graph, self.program, self.torch_device, bool(self.runtime.links.backend))


class Wires(dict[str, Wire | OpenWire]):
    """Name of a value, or of a gradient's sum -> how it goes; made when it is asked for."""

    def __init__(self, graph: Graph, program: Program, device: torch.device, direct: bool) -> None:
        """Of values that arrive on `device`, directly or through the host."""
        super().__init__()
        self._device, self._direct, self._values = device, direct, graph.values
        self._terms = {i.into: i.value for _, i in program if isinstance(i, Accumulate)}

    def __missing__(self, name: str) -> Wire | OpenWire:
        self[name] = wire_of(self._values[self._terms.get(name, name)].type, self._device, self._direct)
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
        others = [self.runtime.outbox(device) for device in self.runtime.names if device != self.mine]
        for instance in self.shared.get(self.mine, ()):
            for row, _ in self.output_wires[instance[0]].rows(env[instance]):
                for outbox in others:
                    outbox.put(row)
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
