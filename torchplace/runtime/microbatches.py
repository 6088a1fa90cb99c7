"""Splits the arguments of a step into micro-batches, and joins what they return."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from torchplace.errors import OptionError

BatchDims = int | None | Mapping[str, int | None]
"""The dim of every input that counts the rows of a batch; None where all micro-batches share it. Or that by name."""

TARGET, OUTPUT = "target", "output"


@dataclass(frozen=True)
class Call:
    """The arguments of a step, or of one of its micro-batches.

    Attributes:
        args: positional.
        kwargs: by keyword.
        target: the target, alone; or nothing.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: tuple[Any, ...] = ()


def call_of(args: tuple[Any, ...], kwargs: dict[str, Any], target: Any, loss_fn: Callable[..., Any] | None) -> Call:
    """The call of a step: where no target is given and the loss takes one, the last positional argument is that."""
    if target is None and args and loss_fn is not None and _positional(loss_fn) != 1:
        if len(args) == 1 and not kwargs:
            raise OptionError(
                "the step was given one argument; its loss takes a target, too: pass it behind the model's arguments, "
                "or as target="
            )
        args, target = args[:-1], args[-1]
    return Call(args, kwargs, () if target is None else (target,))


def _positional(function: Callable[..., Any]) -> int:
    """How many positional arguments a function needs; of a module, its `forward`; 2 where it does not say."""
    try:
        found = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError):
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in found.parameters.values() if p.kind in kinds and p.default is p.empty]
    return len(needed) if needed else 2


@dataclass(frozen=True)
class Split:
    """A step's micro-batches.

    Attributes:
        calls: one for each.
        rows: of each.
    """

    calls: list[Call]
    rows: list[int]


@dataclass
class Splitter:
    """Splits calls.

    Attributes:
        microbatches: how many a step has at most.
        dims: where the rows are.
        names: of the positional arguments.
    """

    microbatches: int
    dims: BatchDims = 0
    names: Sequence[str] = field(default_factory=tuple)

    def split(self, call: Call) -> Split:
        """Cut every tensor that has rows into pieces of as many, but for the last, as `torch.chunk` does.

        Raises:
            OptionError: inputs have different numbers of rows, or not the dim that counts them, or none has any.
        """
        leaves, tree = pytree.tree_flatten_with_path((call.args, call.kwargs, call.target))
        cuts: dict[int, list[torch.Tensor]] = {}
        rows: dict[str, int] = {}
        sizes: list[int] = []
        for path, leaf in leaves:
            name = self._name(path)
            dim = self._dim(name, leaf)
            if dim is None or id(leaf) in cuts:
                continue
            rows[name] = leaf.size(dim)
            if rows[name] != next(iter(rows.values())):
                first = next(iter(rows))
                raise OptionError(
                    f"input {name!r} has {rows[name]} rows (dim {dim}), {first!r} has {rows[first]}; expected as many; "
                    f"pass batch_dims={{{name!r}: None}} if all micro-batches share it, or the dim of its rows"
                )
            sizes = self._sizes(rows[name])
            starts = accumulate(sizes, initial=0)
            cuts[id(leaf)] = [leaf.narrow(dim, start, size) for start, size in zip(starts, sizes, strict=False)]
        if not rows:
            raise OptionError("no input of the step is a tensor with a batch dim; expected one to split")
        parts = [[cuts[id(x)][k] if id(x) in cuts else x for _, x in leaves] for k in range(len(sizes))]
        return Split([Call(*pytree.tree_unflatten(part, tree)) for part in parts], sizes)

    def _sizes(self, rows: int) -> list[int]:
        """Rows of each micro-batch: those of `torch.chunk`, whose pieces could not be written to in place."""
        size = max(1, -(-rows // self.microbatches))
        return [min(size, rows - start) for start in range(0, rows, size)] or [0]

    @property
    def output_dim(self) -> int | None:
        """Where the rows of outputs are."""
        return self.dims.get(OUTPUT, 0) if isinstance(self.dims, Mapping) else self.dims

    def _name(self, path: Sequence[Any]) -> str:
        """The argument that a leaf belongs to."""
        which, *rest = path
        if which.idx == 2:
            return TARGET
        if which.idx == 1:
            return str(rest[0].key)
        position = int(rest[0].idx)
        return self.names[position] if position < len(self.names) else f"args[{position}]"

    def _dim(self, name: str, leaf: object) -> int | None:
        if not isinstance(leaf, torch.Tensor):
            return None
        dims = self.dims
        dim = dims.get(name, 0) if isinstance(dims, Mapping) else dims
        if dim is None or not leaf.dim():
            return None
        if dim >= leaf.dim():
            raise OptionError(
                f"input {name!r} has {leaf.dim()} dim(s), and no dim {dim} that counts rows; pass "
                f"batch_dims={{{name!r}: ...}}, the dim of its rows, or None if all micro-batches share it"
            )
        return dim


def weighted(pieces: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The sum of numbers, each times its weight; what counts for nothing may be anything (a mean of nothing is NaN)."""
    parts = [
        piece * weight if weight else torch.zeros_like(piece) for piece, weight in zip(pieces, weights, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum()


def join(pieces: Sequence[Any], rows: Sequence[int], weights: Sequence[float], dim: int | None) -> Any:
    """One output, of the outputs of all micro-batches: rows one after the other, single numbers weighted and added.

    Args:
        pieces: of each micro-batch; fewer if they are state, which is the same for all.
        rows: of each.
        weights: of each in the loss.
        dim: of the rows.

    Returns:
        The whole; the first micro-batch's where there is nothing to join.
    """
    first = pieces[0]
    if not isinstance(first, torch.Tensor) or len(pieces) != len(rows):
        return first
    if not first.dim():
        if not first.is_floating_point():
            return first
        return weighted(pieces, weights)
    if dim is not None and first.dim() > dim and all(p.size(dim) == n for p, n in zip(pieces, rows, strict=True)):
        return torch.cat(list(pieces), dim)
    return first if len(pieces) == 1 else torch.cat(list(pieces), 0)
