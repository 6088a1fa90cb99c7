"""Device maps: placements of parameters as maps of modules, the form that Accelerate has, and what these cannot say."""

from __future__ import annotations

from collections.abc import Mapping

from torchplace.compiler.graph import Graph


def device_map(parameters: Mapping[str, int]) -> dict[str, int]:
    """The shortest map of module names that says where every parameter is."""
    whole: dict[str, set[int]] = {}
    for path, index in parameters.items():
        parts = path.split(".")
        for i in range(len(parts) + 1):
            whole.setdefault(".".join(parts[:i]), set()).add(index)
    result: dict[str, int] = {}
    for path, index in parameters.items():
        parts = path.split(".")
        prefixes = (".".join(parts[:i]) for i in range(len(parts) + 1))
        result[next(p for p in prefixes if len(whole[p]) == 1)] = index
    return result


def split_modules(graph: Graph, placement: Mapping[str, str], parameters: Mapping[str, str]) -> dict[str, list[str]]:
    """Module -> devices of its forward ops, where they are not all on the one that a device map has for the module.

    Modules whose own parameters are on several devices are among them.

    Args:
        graph: what is placed.
        placement: op name -> device.
        parameters: full name of a parameter or buffer -> device.
    """
    names = list(dict.fromkeys(parameters.values()))
    indices = {device: i for i, device in enumerate(names)}
    known = device_map({path: indices[device] for path, device in parameters.items()})
    split = {path.rpartition(".")[0] for path in known if path in parameters}
    home = {path: {names[i]} for path, i in known.items()} | {path: set() for path in split}
    found: dict[str, set[str]] = {}
    for op in (op for op in graph.ops if op.phase == "forward"):
        parts = op.module.split(".")
        prefixes = (".".join(parts[:i]) for i in range(len(parts), -1, -1))
        module = next((p for p in prefixes if p in home), None)
        if module is not None:
            found.setdefault(module, set()).add(placement[op.name])
    return {module: sorted(devices) for module, devices in found.items() if devices != home[module]}
