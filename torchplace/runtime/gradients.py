"""Hands the gradients that a step has made to the parameters, and to the tensors that the caller gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from torchplace.compiler.graph import Graph, Value
from torchplace.compiler.lifetimes import Instance
from torchplace.compiler.program import Exit
from torchplace.errors import OptionError
from torchplace.runtime.executable import Executable
from torchplace.runtime.interpreter import Env
from torchplace.runtime.transport import same_memory


class Gradients:
    """The gradients of one run of a step; of a shared parameter there may be several, which are added.

    Sums over micro-batches begin with what is in `.grad`, in place, so that they are what as many backwards would have
    left there, to the bit.
    """

    def __init__(self, graph: Graph, executable: Executable, given: Mapping[str, Any]) -> None:
        """Of a step's graph, run by a program, on parameters by the names of their values."""
        self.graph, self.executable = graph, executable
        names = {v.path: v.name for v in graph.inputs if v.kind == "parameter"}
        self.inputs = {v.name for v in graph.inputs if v.kind == "input"}
        self.handed: set[int] = set()
        self.parameters: dict[int, torch.Tensor] = {
            i: given[names[o.path]]
            for i, o in enumerate(graph.outputs)
            if o.kind == "gradient"
            and o.path in names
            and isinstance(o.value, Value)
            and executable.holds(executable.program.outputs[i].device)
        }
        for i, parameter in self.parameters.items():
            if parameter._backward_hooks:
                raise OptionError(
                    f"parameter {graph.outputs[i].path!r} has a hook (register_hook), which would have to see the "
                    "gradient of each micro-batch; use register_post_accumulate_grad_hook, which is called once a step"
                )

    def begun(self) -> Iterator[tuple[Instance, torch.Tensor]]:
        """The sums that gradients are added to in place."""
        begun: set[int] = set()
        for i, parameter in self.parameters.items():
            end, grad = self.executable.program.outputs[i], parameter.grad
            assert end.value is not None
            if grad is not None and grad.layout is torch.strided and id(grad) not in begun and self._begins(end):
                begun.add(id(grad))
                yield (end.value, 0), grad

    def _begins(self, end: Exit) -> bool:
        """Whether a sum is made in the memory in which it ends."""
        made, devices = self.executable.summed.get(end.value or ""), self.executable.runtime.torch_devices
        if made is None or not self.executable.holds(made):
            return False
        return made == end.device or same_memory(devices[made], devices[end.device])

    def hand(self, device: str, env: Env) -> None:
        """Put what a device has made, which has done its part, into `.grad` of its parameters."""
        ends = self.executable.program.outputs
        self._add({i: env[ends[i].value or "", 0] for i in self.parameters if ends[i].device == device})

    def add(self, results: Sequence[Sequence[Any]]) -> None:
        """Put what the program has made into `.grad`, but for what was handed over already."""
        self._add({i: results[i][0] for i in self.parameters if i not in self.handed})

    def _add(self, made_of: Mapping[int, torch.Tensor]) -> None:
        taken: set[int] = set()
        for i, made in made_of.items():
            parameter = self.parameters[i]
            self.handed.add(i)
            if made is parameter.grad:
                pass
            elif parameter.grad is None:
                parameter.grad = made.clone() if _memory(made) in taken else made
            else:
                parameter.grad = _added(parameter.grad, made)
            taken.add(_memory(made))
        for parameter in {id(p): p for p in map(self.parameters.__getitem__, made_of)}.values():
            for hook in (parameter._post_accumulate_grad_hooks or {}).values():
                hook(parameter)

    @property
    def beyond(self) -> bool:
        """Whether inputs get gradients, too: the caller's backward goes on from there."""
        outputs = self.graph.outputs
        return any(o.kind == "gradient" and o.path in self.inputs for o in outputs)

    def of_inputs(self, results: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Sequence[torch.Tensor]]]:
        """Name of an input -> its gradient, for each micro-batch."""
        for i, output in enumerate(self.graph.outputs):
            if output.kind == "gradient" and i not in self.parameters and output.path in self.inputs and results[i]:
                yield output.path, results[i]


def _memory(tensor: torch.Tensor) -> int:
    """Tells memory apart."""
    return id(tensor) if tensor.layout is not torch.strided else tensor.untyped_storage().data_ptr()


def _added(grad: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """A gradient with another added: in place, as autograd does, unless a dense one is added to a sparse one."""
    return grad + made if grad.is_sparse and not made.is_sparse else grad.add_(made)
