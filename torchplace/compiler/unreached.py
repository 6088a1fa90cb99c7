"""Gradients that a backward does not reach are none, as in eager, where AOTAutograd gives zeros.

Who trains by one of two outputs leaves the parameters of the other alone: an optimizer skips what has no gradient, but
lets momentum and weight decay work on one of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from torchplace.compiler import dynamo

Reaches = Sequence[frozenset[int]]
"""For each input of a graph: which of the graph's outputs have to have gradients, one at least, for it to get one."""


_NONE: frozenset[int] = frozenset()


def reaches_of(joint: fx.GraphModule, outputs: int) -> Reaches:
    """Read it off a joint graph; nothing where each gradient needs all that the others do.

    Args:
        joint: forward and backward; its outputs are those of the forward, then a gradient for each input.
        outputs: how many are the forward's.

    Cost: linear in the edges times the outputs that have gradients.
    """
    node = joint.graph.output_node()
    results, descriptions = node.args[0], node.meta.get("desc") or []
    assert isinstance(results, (tuple, list))
    places = {description: i for i, description in enumerate(descriptions[:outputs])}
    tangents = {node: dynamo.tangent_of(node) for node in joint.graph.find_nodes(op="placeholder")}
    reached = {node: frozenset({places[tangent]}) for node, tangent in tangents.items() if tangent in places}
    if len(reached) < 2:
        return ()
    for each in joint.graph.nodes:
        reached[each] = reached.get(each, _NONE).union(*(reached[other] for other in each.all_input_nodes))
    found = [reached[r] if isinstance(r, fx.Node) else _NONE for r in results[outputs:]]
    return found if len({f for f in found if f}) > 1 else ()


def leave_out_unreached(runner: Callable[..., Any], reaches: Reaches) -> Callable[..., Any]:
    """Let backwards of what a runner gives return no gradient where none comes."""
    if not reaches:
        return runner

    def hook(gradients: Sequence[Any], tangents: Sequence[Any]) -> Any:
        if len(gradients) != len(reaches):
            return None
        there = {i for i, tangent in enumerate(tangents) if tangent is not None}
        return tuple(
            None if needed and needed.isdisjoint(there) else gradient
            for gradient, needed in zip(gradients, reaches, strict=True)
        )

    def run(*args: Any) -> Any:
        results = runner(*args)
        if (backward := _backward(results, args)) is not None:
            backward.register_hook(hook)
        return results

    return run


def _backward(results: Sequence[Any], args: Sequence[Any]) -> Any:
    """The backward of the graph that gave some results; None where there is none. An input may be a result, too."""
    nodes = [result.grad_fn for result in results if isinstance(result, torch.Tensor)]
    nodes = [node for node in nodes if dynamo.is_backward_of_graph(node)]
    before = [arg.grad_fn for arg in args if isinstance(arg, torch.Tensor)] if nodes else []
    return next((node for node in nodes if node not in before), None)
