"""Runs a program on devices that are not here: under `FakeTensorMode`, with device i of the topology as `cuda:i`.

CPU devices share an address space, so there a missing transfer would go unnoticed. Fake tensors have a device and no
data, and an op on two devices raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from torchplace import Topology
from torchplace.compiler.graph import Graph, Value
from torchplace.compiler.program import Program
from torchplace.compiler.types import ScalarType, TensorType, contiguous_strides, torch_dtype
from torchplace.runtime.local import LocalRuntime

_SCALARS = {"bool": True, "int": 1, "float": 1.0, "object": None}


def run_on_fake_devices(program: Program, graph: Graph, topology: Topology, keys: Mapping[str, str]) -> list[str]:
    """Run a program; a device mismatch raises.

    Returns:
        What is wrong with its outputs: another device, shape, stride or dtype than the program and the graph say.
    """
    devices = {name: torch.device("cuda", i) for i, name in enumerate(topology.device_names)}
    with FakeTensorMode(allow_non_fake_inputs=True):
        executable = LocalRuntime(topology, devices).prepare(program, graph, keys)
        starts = [(v, program.inputs[v.name]) for v in graph.inputs if v.kind != "constant"]
        given = {(v.name, k): _fake(v, devices[e.device]) for v, e in starts for k in program.instances(e)}
        results = executable.run(given)
    faults = []
    for output, exit_, made in zip(graph.outputs, program.outputs, results, strict=True):
        if isinstance(output.value, Value) and isinstance(output.value.type, TensorType):
            end = output.device or (graph.home if output.kind == "output" else devices[exit_.device])
            expected = torch.device(end), *_form(output.value.type)
            faults += [f"{output.value!r} is {a}, expected {expected}" for a in map(_form_of, made) if a != expected]
    return faults


def _fake(value: Value, device: torch.device) -> Any:
    if isinstance(value.type, ScalarType):
        return _SCALARS[value.type.kind] if value.type.symbol is None else value.type.symbol.hint
    sizes, strides, dtype = _form(value.type)
    return torch.empty_strided(sizes, strides, dtype=dtype, device=device)


def _form(type_: TensorType) -> tuple[tuple[int, ...], tuple[int, ...], torch.dtype]:
    stride = contiguous_strides(type_.sizes) if type_.stride is None else type_.stride
    return type_.sizes, stride, torch_dtype(type_.dtype)


def _form_of(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.device, tuple(tensor.shape), tensor.stride(), tensor.dtype
