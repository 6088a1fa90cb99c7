"""Bytes that items bring to whatever device they are on, at moments at which nothing can have been given back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from torchplace.compiler.graph import STATE, Value
from torchplace.placement.bounds.places import Placed, Places


def held_bytes(places: Places, optimizer: Mapping[str, int]) -> NDArray[np.float64]:
    """A row for the end of each part, a column for each number of an item: bytes that are there then, at least.

    State, with its optimizer's, is there all the time; what the caller gave stays until the step is over; what a part
    returns is there at its end. Memory in which several values stand counts once, as small as the smallest of them:
    a view that is sent is a copy of its own.

    Args:
        places: the items.
        optimizer: input name -> bytes of optimizer state that live beside a parameter.

    Cost: linear.
    """
    always = np.zeros(len(places))
    for name, item, nbytes in _state(places):
        always[item] += nbytes + optimizer.get(name, 0)
    rows = []
    given: set[str] = set()
    for part in places.parts:
        for value in part.graph.inputs:
            if value.kind == "input" and value.name not in given:
                given.add(value.name)
                always[part.at[value.name]] += value.storage_bytes
        row = always.copy()
        for item, nbytes, of_caller in _returned(part):
            row[item] += nbytes
            always[item] += nbytes if of_caller else 0
        rows.append(row)
    return np.array(rows)


def _state(places: Places) -> Iterator[tuple[str, int, int]]:
    """Name, item and bytes of every piece of state that some part takes."""
    seen: set[str] = set()
    for part in places.parts:
        for value in part.graph.inputs:
            if value.kind in STATE and value.name in places.owners and value.name not in seen:
                seen.add(value.name)
                yield value.name, places.owners[value.name], value.storage_bytes


def _returned(part: Placed) -> Iterator[tuple[int, int, bool]]:
    """Item, bytes, and whether the caller gets it, of each piece of memory that ops made and the part returns."""
    values = part.graph.values
    kinds = [o.kind for o in part.graph.outputs if isinstance(o.value, Value)]
    seen: set[str] = set()
    for (value, item), kind in zip(part.ends, kinds, strict=True):
        root, nbytes = _memory(value, values)
        if root.producer is not None and root.name not in seen:
            seen.add(root.name)
            yield item, nbytes, kind == "output"


def _memory(value: Value, values: Mapping[str, Value]) -> tuple[Value, int]:
    """What owns the memory that a value stands in where all is on one device, and the bytes of it, at least."""
    nbytes = value.storage_bytes
    while value.base is not None and value.base in values:
        value = values[value.base]
        nbytes = min(nbytes, value.storage_bytes)
    return value, nbytes
