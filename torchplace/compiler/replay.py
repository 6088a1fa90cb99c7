"""Replays: a graph that is being traced, run as far as it has come, to see what values come to in the call at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from torchplace.compiler.acts import only_timed
from torchplace.compiler.formulas import Call
from torchplace.compiler.writes import may_write

Around = Callable[[fx.Node], Any]
"""Placeholder of a graph within another -> what it stands for."""


class Replay(fx.Interpreter):
    """The ops of Dynamo's graph in eager, on what a call is given, each once; nothing that the caller has is written.

    Buffers and inputs are copies; parameters are, where an op may write into one. Random numbers are others than the
    call will draw, and the state of the generator is as before. Prints, hooks and checks are left out. Values are kept,
    as eager keeps them for a backward. An op whose inputs are on several devices, as parameters are that plans have
    moved, runs on that of the largest.
    """

    def __init__(self, graph: fx.Graph, call: Call, modules: Mapping[str, Any], around: Around | None = None) -> None:
        """Nothing has run yet.

        Args:
            graph: may grow.
            call: whose values are wanted.
            modules: the graphs and modules that it calls, by name.
            around: gives what a graph within another is given; None for one that is not.
        """
        super().__init__(nn.Module(), graph=graph, garbage_collect_values=False)
        self.call, self._modules, self._around = call, modules, around
        self._kept = set[int]()  # memory that is the caller's
        self._copying = False

    def result(self, node: fx.Node) -> Any:
        """What a node gives. Cost: that of all nodes up to it which have not run yet."""
        with torch.no_grad(), only_timed(), torch.random.fork_rng(devices=[]):
            try:
                self._run_up_to(node)
            except _Written:
                self._copying = True
                self.env.clear()
                self._run_up_to(node)
        return self.env[node]

    def _run_up_to(self, node: fx.Node) -> None:
        for one in self.graph.nodes:
            if one not in self.env:
                self.env[one] = self._run(one)
            if one is node:
                break

    def _run(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._given(node)
        if node.target is torch._assert_async:  # the graph will say so
            return None
        if node.op == "get_attr":
            return self._modules[str(node.target)]
        args, kwargs = _together(self.fetch_args_kwargs_from_env(node))
        if may_write(node) or _renorms(node):
            self._require_own((args, kwargs))
        if node.op == "call_module":
            return self._modules[str(node.target)](*args, **kwargs)
        return getattr(self, node.op)(node.target, args, kwargs)

    def _given(self, node: fx.Node) -> Any:
        """What a call is given there, or a graph within another."""
        if self._around is not None:
            return self._around(node)
        argument = node.meta.get("grapharg")
        if argument is None or argument.source is None:
            raise ValueError(f"{node.name} is nothing that a call is given")
        value = self.call.read(argument.source)
        if isinstance(value, nn.Parameter) and not self._copying:
            self._kept.add(_memory(value))
            return value
        if isinstance(value, Tensor):
            return value.detach().clone()
        return torch.as_tensor(value) if argument.pass_arg_as_tensor else value

    def _require_own(self, given: Any) -> None:
        """Check that an op that writes writes into nothing that is the caller's."""
        leaves = () if self._copying else pytree.tree_leaves(given)
        if any(isinstance(leaf, Tensor) and _memory(leaf) in self._kept for leaf in leaves):
            raise _Written


class _Written(Exception):  # noqa: N818  # no fault
    """An op may write into a parameter."""


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _renorms(node: fx.Node) -> bool:
    """Whether it looks up in a table whose rows it makes shorter, in place."""
    most = node.args[3] if len(node.args) > 3 else node.kwargs.get("max_norm")
    return "embedding" in getattr(node.target, "__name__", "") and most is not None


def _together(given: Any) -> Any:
    """What an op is given, on one device: that of the largest tensor."""
    tensors = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]
    if len({tensor.device for tensor in tensors}) < 2:
        return given
    there = max(tensors, key=lambda tensor: tensor.nbytes).device
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(there), given)
