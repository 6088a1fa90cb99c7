"""Rows: equal micro-batches of a step, one behind the other, which run as one program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torchplace.runtime.counting import Numbers
from torchplace.runtime.microbatches import Call, Split, join
from torchplace.runtime.optimizing import Optimizing


@dataclass
class Row:
    """Equal micro-batches of one step, one behind the other.

    Attributes:
        calls: their arguments.
        weights: of their losses in that of the batch, times the scale of gradients.
        returned: outputs beside the loss are wanted.
        optimizing: updates parameters when they have all their gradients; of the last row.
        leaves: all that their arguments hold, for each.
        results: place of an output of the graph -> what each has made; once it has run.
        output: what the model returned for the last.
        handed: the tensors that it has, in the order of the outputs of the graph.
        gradients: (inputs, their gradients) that are to go back to where the caller made them.
        counted: plain numbers of the model before a call that is captured changes them.
    """

    calls: Sequence[Call]
    weights: Sequence[float]
    returned: bool
    optimizing: Optimizing | None = None
    leaves: list[list[Any]] = field(default_factory=list)
    results: list[Sequence[Any]] = field(default_factory=list)
    output: Any = None
    handed: Sequence[Any] = ()
    gradients: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    counted: Numbers = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.leaves = [pytree.tree_leaves((c.args, c.kwargs, c.target)) for c in self.calls]
        self.where = {id(leaf): i for i, leaf in enumerate(self.leaves[0])}

    def each(self, first: Any) -> list[Any]:
        """What every micro-batch has where the first has `first`."""
        i = self.where.get(id(first))
        return [first if i is None else leaves[i] for leaves in self.leaves]


def alike(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of equal numbers."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end] != rows[start]:
            yield start, end
            start = end


def joined(rows: Sequence[Row], split: Split, weights: Sequence[float], dim: int | None) -> Any:
    """What the model would have returned for the whole batch."""
    first = rows[0]
    place = {id(tensor): i for i, tensor in enumerate(first.handed) if isinstance(tensor, torch.Tensor)}

    def whole(leaf: Any) -> Any:
        if id(leaf) in place:
            pieces = [piece for row in rows for piece in row.results[place[id(leaf)]]]
        elif id(leaf) in first.where:
            pieces = [leaves[first.where[id(leaf)]] for row in rows for leaves in row.leaves]
        else:
            return leaf
        return join(pieces, split.rows, weights, dim)

    with torch.no_grad():
        return pytree.tree_map(whole, first.output)
