"""Takes apart the gradient of a parameter that several layers share, so that each part is added up where it is made."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from torchplace.compiler.graph import Graph, Op, Output, Value

_ADD = "aten.add.Tensor"
_MOST = 4
"""Terms that are returned by themselves: an encoder's and a decoder's embedding, and the head, are three."""


def separate_partial_gradients(graph: Graph) -> None:
    """Let the graph return the terms of a sum that is but a parameter's gradient, instead of the sum, in place.

    A tied embedding's gradient is that of the head and those of the embeddings. Added in the graph, a term would have
    to go, in every micro-batch, to the device of the sum. Returned by itself, it is added up over all micro-batches
    where it is made, and goes to the parameter's device once a step.

    Each sum takes as much memory as the parameter: one that is used more often than a few times (in every step of a
    recurrent layer) keeps the sum in the graph.

    Before: outputs are labelled with the paths of their gradients. After: an output for each term, with the same label;
    that which was the sum's is the first term's, and further ones stand at the end.

    Cost: linear.
    """
    parameters = {v.path: v for v in graph.inputs if v.kind == "parameter"}
    used = Counter(v.name for op in graph.ops for v in op.inputs)
    used.update(o.value.name for o in graph.outputs if isinstance(o.value, Value))
    further: list[Output] = []
    dropped: set[Op] = set()
    for i, output in enumerate(graph.outputs):
        if output.kind != "gradient" or output.path not in parameters or not isinstance(output.value, Value):
            continue
        (first, *others), adds = _terms(output.value, parameters[output.path], used)
        graph.outputs[i] = replace(output, value=first)
        further += [replace(output, value=term) for term in others]
        dropped |= adds
    graph.outputs += further
    graph.ops[:] = [op for op in graph.ops if op not in dropped]


def _terms(value: Value, parameter: Value, used: Counter[str]) -> tuple[list[Value], set[Op]]:
    """The terms of a value, which is a sum that nothing else needs, and the ops that add them; or itself, and none."""
    terms: list[Value] = []
    adds: set[Op] = set()
    left = [value]
    while left:
        term = left.pop()
        op = term.producer
        if op is None or used[term.name] > 1 or not _only_adds(op) or any(v.type != parameter.type for v in op.inputs):
            terms.append(term)
        else:
            adds.add(op)
            left += reversed(op.inputs)
        if len(terms) + len(left) > _MOST:
            return [value], set()
    return terms, adds


def _only_adds(op: Op) -> bool:
    """Whether an op is a plain sum of two different values that ops have made."""
    values = [v for v in op.args if isinstance(v, Value) and v.producer is not None]
    return op.target == _ADD and not op.kwargs and len(op.args) == len(values) == 2 and values[0] is not values[1]
