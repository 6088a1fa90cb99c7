"""Which ops of a graph that is being traced write into what they are given."""

from __future__ import annotations

import operator

import torch
from torch import fx


def writes_in_place(node: fx.Node) -> bool:
    """Whether a node of Dynamo's graph writes into its first input."""
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    if getattr(node.target, "__module__", "") == operator.add.__module__:
        return name == "setitem" or (name[:1] == "i" and bool({name[1:], f"{name[1:]}_"} & vars(operator).keys()))
    return name.endswith("_") and not name.endswith("__")


def may_write(node: fx.Node) -> bool:
    """Whether a node of Dynamo's graph may write into any of its inputs."""
    if node.op not in ("call_function", "call_method"):
        return False
    target = node.target
    if "out" in node.kwargs or isinstance(target, torch._ops.HigherOrderOperator):
        return True
    if isinstance(target, torch._ops.OpOverload):
        return bool(target._schema.is_mutable)
    return writes_in_place(node) or (isinstance(target, str) and target.startswith("__i"))
