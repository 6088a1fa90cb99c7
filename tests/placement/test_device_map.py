"""Device maps say where every parameter is, in as few words as can be; what they cannot say is named."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchplace.compiler.dry import capture_dry
from torchplace.placement.device_map import device_map, split_modules


def expand(mapping: dict[str, int], path: str) -> int:
    """As Accelerate reads a device map: the entry that is the parameter, or a module around it."""
    [found] = {key for key in mapping if key in ("", path) or path.startswith(f"{key}.")}
    return mapping[found]


NAMES = st.sampled_from(["a", "b", "1", "10", "layer"])
LEAVES = st.sampled_from(["weight", "bias"])
PATHS = st.tuples(st.lists(NAMES, max_size=3), LEAVES).map(lambda p: ".".join([*p[0], p[1]]))
PARAMETERS = st.dictionaries(PATHS, st.integers(0, 2), max_size=8)


@given(PARAMETERS)
def test_device_maps_expand_to_the_parameters_devices(parameters: dict[str, int]) -> None:
    mapping = device_map(parameters)
    assert {path: expand(mapping, path) for path in parameters} == parameters


@given(PARAMETERS)
def test_device_maps_are_minimal(parameters: dict[str, int]) -> None:
    mapping = device_map(parameters)
    for key in mapping:
        assert any(key in ("", p) or p.startswith(f"{key}.") for p in parameters), "no entry for nothing"
        if key:
            parent = key.rpartition(".")[0]
            below = {d for p, d in parameters.items() if not parent or p.startswith(f"{parent}.")}
            assert len(below) > 1, f"{parent!r} would have done"


def test_device_maps_by_hand() -> None:
    assert device_map({}) == {}
    assert device_map({"h.0.w": 0, "h.1.w": 0, "h.10.w": 1, "head": 1}) == {"h.0": 0, "h.1": 0, "h.10": 1, "head": 1}
    assert device_map({"h.0.a.w": 0, "h.0.a.b": 0, "h.0.c.w": 1}) == {"h.0.a": 0, "h.0.c": 1}


def test_modules_that_a_device_map_cannot_say_are_named() -> None:
    made = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), nn.GELU()), nn.Linear(8, 2))
    [found] = capture_dry(made, (torch.randn(3, 4),), {}, training=True)
    by_module = {op.name: "d1" if op.module.startswith("1") else "d0" for op in found.graph.ops}
    parameters = {name: "d1" if name.startswith("1") else "d0" for name, _ in made.named_parameters()}
    assert split_modules(found.graph, by_module, parameters) == {}
    gelu = next(op.name for op in found.graph.ops if "gelu" in op.target)
    assert split_modules(found.graph, {**by_module, gelu: "d0"}, parameters) == {"1": ["d0", "d1"]}
    elsewhere = dict.fromkeys(by_module, "d1")
    assert split_modules(found.graph, elsewhere, dict.fromkeys(parameters, "d0")) == {"": ["d1"]}
    apart = split_modules(found.graph, by_module, {**parameters, "2.bias": "d1"})
    assert apart == {"2": ["d0"]}, "a weight here and a bias there"
