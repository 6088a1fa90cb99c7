"""Models that Accelerate has dispatched (`hf_device_map`): its hooks move weights and values about, as plans do.

Both at once would not do. So its hooks are taken off where a model is compiled, and left aside where one is captured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_HOOK, _FORWARD, _MAP = "_hf_hook", "_old_forward", "hf_device_map"


def is_dispatched(model: object) -> bool:
    """Whether some module has a hook of Accelerate's."""
    return isinstance(model, nn.Module) and any(_HOOK in vars(module) for module in model.modules())


def take_back(model: Any) -> None:
    """Make an ordinary model of a dispatched one: without hooks, and with its weights in memory.

    What is no such model stays as it is. Weights that were offloaded are read, to the CPU; parameters that are shared
    are shared again.

    Cost: host memory for what was offloaded.
    """
    if not is_dispatched(model):
        return
    from accelerate.hooks import remove_hook_from_module

    read = [(module, name, tensor) for module in model.modules() for name, tensor in _offloaded(module)]
    remove_hook_from_module(model, recurse=True)
    for module, name, tensor in read:
        _put(module, name, tensor)
    for module in model.modules():
        _forget_own_forward(module)
    if read and callable(tie := getattr(model, "tie_weights", None)):
        tie()
    vars(model).pop(_MAP, None)


def _offloaded(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of a module's tensors that Accelerate brings in for each call; they stand on the meta device."""
    hook = vars(module).get(_HOOK)
    for part in getattr(hook, "hooks", [hook]):
        values = getattr(part, "weights_map", None) if getattr(part, "offload", False) else None
        if values is None:
            continue
        recurse = part.place_submodules
        tensors = (*module.named_parameters(recurse=recurse), *module.named_buffers(recurse=recurse))
        yield from ((name, values[name]) for name, tensor in tensors if tensor.device.type == "meta")


def _put(module: nn.Module, path: str, values: torch.Tensor) -> None:
    """Set a parameter or buffer, of the module or of one in it."""
    owner, _, name = path.rpartition(".")
    module = module.get_submodule(owner)
    held: Any = module._parameters.get(name)
    values = values.detach().clone()  # what is read from disk may be mapped there
    if held is None:
        module._buffers[name] = values
    else:
        module._parameters[name] = nn.Parameter(values.to(held.dtype), held.requires_grad)


def _forget_own_forward(module: nn.Module) -> None:
    """Drop a module's own `forward` where it is but that of its class: Accelerate leaves it behind."""
    own = vars(module).get("forward")
    if getattr(own, "__func__", None) is type(module).forward and getattr(own, "__self__", None) is module:
        del vars(module)["forward"]


@contextmanager
def hooks_aside(model: object) -> Iterator[None]:
    """Within, a dispatched model's modules have their own `forward`, and nothing is moved."""
    stood: list[tuple[dict[str, Any], Any]] = []
    try:
        for module in model.modules() if isinstance(model, nn.Module) else ():
            held = vars(module)
            if _HOOK in held and _FORWARD in held and "forward" in held:
                stood.append((held, held["forward"]))
                held["forward"] = held[_FORWARD]
                _forget_own_forward(module)
        yield
    finally:
        for held, forward in stood:
            held["forward"] = forward
