"""Capture: TorchDynamo traces the code, AOTAutograd makes the ATen graph, forward or forward and backward.

One way in for `tp.plan`, `tp.compile` and `torch.compile(backend="torchplace")`: a `Capturer` is a Dynamo backend.
It hands every graph that Dynamo finds to a callback, which returns what runs the graph's parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from torchplace.compiler import dynamo
from torchplace.compiler.dynamo import Runner
from torchplace.compiler.findings import Outcomes
from torchplace.compiler.foresight import expected_now, found_now, nothing_expected, settle
from torchplace.compiler.from_fx import FxReader, InputName, size_hint
from torchplace.compiler.graph import Graph, Output, Value
from torchplace.compiler.homes import home_of
from torchplace.compiler.left_out import LeftOut
from torchplace.compiler.misspeculation import require_new, speculating
from torchplace.compiler.module_hooks import link_hooks
from torchplace.compiler.passes.layouts import dense_gradients
from torchplace.compiler.passes.phases import assign_phases
from torchplace.compiler.place import device_around, unless_elsewhere
from torchplace.compiler.printed import split_with_prints
from torchplace.compiler.sizes import size_conditions
from torchplace.compiler.unreached import Reaches, leave_out_unreached, reaches_of

_STEP = re.compile(r"\['([^']+)'\]|\.(\w+)|\[(\d+)\]")
_STARRED = re.compile(r"^L\['args'\]\[(\d+)\]|^L\['kwargs'\]\['(\w+)'\]")
_CONTAINERS = frozenset({"_modules", "_parameters", "_buffers"})


@dataclass(eq=False)
class Captured:
    """One graph that Dynamo found.

    Attributes:
        graph: the whole, forward and (when training) backward: what is placed.
        parts: what runs: the forward graph alone, or the forward and the backward graph. Ops have the names that
            they have in `graph`; values saved between the parts too.
        state: the parameters and buffers among the inputs, by value name.
        examples: what the inputs were at the capture, by value name, as far as it is known.
        joint: the whole graph runs as one part, backward included: a step.
        broken: where the graph ends before the call does, and why: a graph break. "" where it does not.
        holds: what sizes of its inputs it is for, where they may change (`sizes.size_conditions`).
        found: what lines of the model have found that look at values, which it is for (`foresight.found_now`).
        expected: what of that it checks when it runs (`speculation`).
    """

    graph: Graph
    parts: tuple[Graph, ...]
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    examples: dict[str, Any] = field(default_factory=dict)
    joint: bool = False
    broken: str = ""
    holds: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    expected: Outcomes = ()

    @property
    def training(self) -> bool:
        """Whether it was captured with its backward."""
        return len(self.parts) == 2 or any(op.phase != "forward" for op in self.graph.ops if self.joint)


Handler = Callable[[Captured], Sequence[Runner]]
"""Places a captured graph; returns a runner for each of its parts."""


class Capturer:
    """A Dynamo backend that captures and hands over."""

    def __init__(
        self,
        handler: Handler,
        name: str = "graph",
        names: Callable[[], Mapping[int, str]] = dict,
        dry: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        """Hand graphs to `handler`.

        Args:
            handler: is called for each graph, and returns what runs its parts.
            name: of the model.
            names: gives, at each capture, id of a parameter or buffer -> its full name, where the model is known.
            dry: run nothing: calls return tensors on the meta device, of the right types.
            arguments: names of the call's positional arguments, for a module's inputs to be called by.
        """
        self.handler, self.name, self.names, self.dry = handler, name, names, dry
        self.arguments = arguments
        self.captures = 0
        self.left = LeftOut(name)

    def __call__(self, module: fx.GraphModule, inputs: Sequence[Any], **_: Any) -> Callable[..., Any]:
        """Capture one graph of Dynamo's and return what runs it."""
        session = _Session(self, module, inputs)
        runner = speculating(leave_out_unreached(session.compile(), session.reaches), session.mutated)
        session.forget_inputs()
        return session.hand_out_shapes if self.dry else unless_elsewhere(runner)


def start_capture(capturer: Capturer, module: fx.GraphModule, inputs: Sequence[Any]) -> _Session:
    """The capture of one graph of Dynamo's, for a capturer that runs it in another way."""
    return _Session(capturer, module, inputs)


class _Session:
    """The capture of one graph: holds what the callbacks of AOTAutograd share."""

    def __init__(self, capturer: Capturer, module: fx.GraphModule, inputs: Sequence[Any]) -> None:
        self.capturer, self.module, self.inputs = capturer, module, inputs
        self.handler = capturer.handler
        placeholders = module.graph.find_nodes(op="placeholder")
        self.sources = [dynamo.source_of(p) for p in placeholders]
        self.runners: Sequence[Runner] = ()
        self.names = capturer.names()
        self.by_name: dict[str, Any] = {}
        self.called: dict[int, InputName] = {}
        self.written: list[str] = []
        self.mutated: list[int] = []
        self.reaches: Reaches = ()
        self.home = _home(inputs)
        self.around = device_around()

    def compile(self) -> Callable[..., Any]:
        require_new()
        with nothing_expected():  # Dynamo's graph is made: no check can be added to it
            runner = dynamo.compile_with_aot(
                self.module,
                self.inputs,
                partition=self._partition,
                forward=lambda _: self.runners[0],
                backward=lambda _: self.runners[1],
                inference=self._inference,
            )
        self.capturer.captures += 1
        return runner

    def forget_inputs(self) -> None:
        """Hold the caller's tensors no longer: AOTAutograd keeps our callbacks for as long as the graph lives."""
        self.inputs, self.by_name = (), {}

    @property
    def output_count(self) -> int:
        """How many outputs Dynamo's graph has."""
        return len(_returned(self.module))

    def hand_out_shapes(self, *args: Any) -> list[Any]:
        """What a dry call returns: tensors that take no memory, of the types that the graph's outputs have."""
        results = [n.meta.get("example_value") if isinstance(n, fx.Node) else n for n in _returned(self.module)]
        return [_on_meta(r) for r in results]

    def _inference(self, module: fx.GraphModule) -> Runner:
        link_hooks(module)
        reader = self._reader(module)
        graph = reader.read(self._names(module))
        assign_phases(graph)
        self._hand_over(graph, (graph,))
        return self.runners[0]

    def _partition(self, joint: fx.GraphModule, inputs: Sequence[Any], forward_outputs: int) -> Any:
        link_hooks(joint)
        self.reaches = reaches_of(joint, forward_outputs)
        reader = self._reader(joint)
        graph = reader.read(self._names(joint))
        self._label_outputs(graph, joint, forward_outputs)
        parameters = {v.path: v for v in graph.inputs if v.kind == "parameter"}
        dense_gradients(graph, parameters)
        assign_phases(graph)
        forward, backward = split_with_prints(joint, lambda: dynamo.split_joint(joint, inputs, forward_outputs))
        names = {n.name: v for n, v in reader.values.items() if isinstance(v, Value)}
        parts = self._part(forward, names), self._part(backward, names)
        saved = [replace(o, kind="saved", device="") for o in parts[0].outputs[forward_outputs:]]
        parts[0].outputs[forward_outputs:] = saved
        parts[1].outputs = [
            replace(o, kind="gradient", path=g.path, device=g.device)
            for o, g in zip(parts[1].outputs, graph.outputs[forward_outputs:], strict=True)
        ]
        dense_gradients(parts[1], parameters)
        phases = {op.name: op.phase for op in graph.ops}
        for op in (op for part in parts for op in part.ops):
            op.phase = phases.get(op.name, "forward")
        self._hand_over(graph, parts)
        return forward, backward

    def _part(self, module: fx.GraphModule, names: Mapping[str, Value]) -> Graph:
        """Convert one part of the joint graph, its inputs called as the joint graph calls the same values."""
        inputs = []
        for node in module.graph.find_nodes(op="placeholder"):
            value = names.get(node.name)
            name = node.name if value is None else value.name
            kind = None if value is None else value.kind
            inputs.append(InputName(name, kind or "saved", "" if value is None else value.path))
        return self._reader(module).read(inputs)

    def _hand_over(self, graph: Graph, parts: tuple[Graph, ...]) -> None:
        state = {
            v.name: tensor
            for v, tensor in zip(graph.inputs, self._tensors(graph), strict=True)
            if v.kind in ("parameter", "buffer") and tensor is not None
        }
        mutated = {name for op in graph.ops for name in op.mutates}
        self.mutated = [index for index, called in self.called.items() if called.name in mutated]
        with dynamo.outside_modes():  # the handler moves real tensors
            broken = self.capturer.left.around(dynamo.break_of(self.module))
            holds = size_conditions(self.module, [self._name(i).name for i in range(len(self.sources))])
            known = dict(self.by_name)
            settle()
            found, expected = found_now(), expected_now()
            captured = Captured(graph, parts, state, known, broken=broken, holds=holds, found=found, expected=expected)
            self.runners = self.handler(captured)

    def _tensors(self, graph: Graph) -> list[Any]:
        return [self.by_name.get(v.name) for v in graph.inputs]

    def _reader(self, module: fx.GraphModule) -> FxReader:
        return FxReader(module, self.capturer.name, self.home, self.around)

    def _names(self, module: fx.GraphModule) -> list[InputName]:
        """Name the placeholders: parameters and buffers by their path, inputs by the user's name."""
        taken = {node.name for node in module.graph.nodes}
        named = []
        for node in module.graph.find_nodes(op="placeholder"):
            index = dynamo.input_index(node)
            name = InputName(node.name, "tangent") if index is None else self._name(index)
            if index is not None:
                while name.name in taken:
                    name = replace(name, name=name.name + "_")
                self.by_name[name.name] = self.inputs[index]
                self.called[index] = name
            taken.add(name.name)
            named.append(name)
        return named

    def _name(self, index: int) -> InputName:
        tensor, source = self.inputs[index], self.sources[index]
        path = self.names.get(id(tensor)) or _path(source)
        if isinstance(tensor, torch.nn.Parameter):
            return InputName(_plain(path), "parameter", path)
        if id(tensor) in self.names or "_buffers" in source:
            return InputName(_plain(path), "buffer", path)
        called = _STARRED.sub(self._argument, source)
        return InputName(re.sub(r"\W+", "_", _path(called)).strip("_") or f"input_{index}", "input")

    def _argument(self, match: re.Match[str]) -> str:
        """The user's name for an argument that a module's call takes as one of `*args` or `**kwargs`."""
        position, keyword = match.groups()
        known = self.capturer.arguments
        name = keyword or (known[int(position)] if int(position) < len(known) else f"args_{position}")
        return f"L['{name}']"

    def _label_outputs(self, graph: Graph, joint: fx.GraphModule, forward_outputs: int) -> None:
        """Say of every output behind the forward ones which input's gradient it is."""
        node = joint.graph.output_node()
        descriptions = node.meta.get("desc") or []
        indices = dict(enumerate(map(dynamo.gradient_index, descriptions)))
        written = map(dynamo.written_index, descriptions[:forward_outputs])
        self.written = [self.called[index].path or self.called[index].name for index in written if index is not None]
        for i in range(forward_outputs, len(graph.outputs)):
            value, index = graph.outputs[i].value, indices.get(i)
            if index is None:
                graph.outputs[i] = Output(value, "gradient")
            elif self.called[index].path:  # a parameter's gradient stays with the parameter
                graph.outputs[i] = Output(value, "gradient", self.called[index].path)
            else:
                graph.outputs[i] = Output(value, "gradient", self.called[index].name, str(_stands(self.inputs[index])))


def _stands(tensor: torch.Tensor) -> torch.device:
    """The device of a real tensor; of one on the meta device, that which it stands for."""
    return home_of(tensor) if tensor.device.type == "meta" else tensor.device


def _home(inputs: Sequence[Any]) -> torch.device:
    """Where eager would run the graph: the first device among its tensors that is no CPU, else the CPU."""
    devices = [home_of(t) for t in inputs if isinstance(t, torch.Tensor)]
    return next((d for d in devices if d.type != "cpu"), devices[0] if devices else torch.device("cpu"))


def _path(source: str) -> str:
    """The dotted path that a Dynamo source spells, without the root: `transformer.wte.weight`."""
    steps = [next(filter(None, m)) for m in _STEP.findall(source)]
    return ".".join(s for s in steps if s not in _CONTAINERS and s != "self") or source


def _plain(path: str) -> str:
    """A path as the name of a value: in graphs and programs, which are text, a name has no spaces or brackets."""
    return re.sub(r"[^\w.]", "_", path)


def _returned(module: fx.GraphModule) -> Sequence[Any]:
    results = module.graph.output_node().args[0]
    return results if isinstance(results, (tuple, list)) else (results,)


def _on_meta(value: Any) -> Any:
    if isinstance(value, torch.SymInt):
        return size_hint(value)
    if not isinstance(value, torch.Tensor):
        return value
    sizes, strides = ([int(_on_meta(n)) for n in numbers] for numbers in (value.size(), value.stride()))
    there = torch.empty_strided(sizes, strides, dtype=value.dtype, device="meta")
    return there.requires_grad_(value.requires_grad) if value.is_floating_point() else there
