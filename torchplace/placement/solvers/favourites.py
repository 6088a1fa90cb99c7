"""Favourite children: which op should follow which on the same device, by a linear program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import block_array, csr_array, diags_array, eye_array

from torchplace.placement.coarse.ideals import Floats
from torchplace.placement.coarse.model import MADE, Coarse
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.heft import mean_link

MAX_ITEMS = 2000
"""Larger problems are contracted to so many items."""
THRESHOLD = 0.1
"""Of an edge's transfer: where the relaxation pays for less, the edge leads to a favourite child."""
_TIE = 1e-3

Node = TypeVar("Node", int, str)


def favourites(problem: Problem, seconds: float) -> dict[str, str]:
    """For each op, its favourite child: the one of its users that should run next on its device, if any.

    Hanen and Munier, "An approximation algorithm for scheduling dependent tasks on m processors with small
    communication delays" (ETFA 1995): on devices without number, an op has one favourite child at most, and is that of
    one op at most; transfers to others are paid for. Which choice ends soonest is an integer program; its relaxation
    is rounded, as Jeon et al. (SoCC 2020) do.

    Beyond the papers, of solutions that end as soon one is taken that transfers little: elsewhere than on the critical
    path the program would have no opinion. Where the time is over, the largest transfers are saved in turn.

    Args:
        problem: whose ops they are. With more than 2,000 the program is about items (`Coarse`); inside an item the
            largest transfers are saved.
        seconds: for the linear program.

    Returns:
        Op -> child; no child twice.
    """
    coarse = Coarse.of(problem, MAX_ITEMS)
    delays = _delays(coarse, *mean_link(problem))
    time = np.mean(np.array(coarse.time, dtype=float), axis=0)
    paid = relaxed(delays, time, seconds) if delays and seconds > 0 else None
    if paid is None:
        items = matched(sorted(delays, key=lambda edge: -delays[edge]))
    else:
        items = matched(edge for edge, part in zip(delays, paid.tolist(), strict=True) if part < THRESHOLD)
    return _of_ops(problem, coarse, items)


def matched(edges: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """Edges in turn, those left out that begin or end where one before them does: node -> node."""
    found: dict[Node, Node] = {}
    taken: set[Node] = set()
    for source, target in edges:
        if source not in found and target not in taken:
            found[source] = target
            taken.add(target)
    return found


def _delays(coarse: Coarse, latency: float, per_byte: float) -> dict[tuple[int, int], float]:
    """(item, user) -> seconds of what the one hands to the other."""
    found: dict[tuple[int, int], float] = {}
    for value in coarse.values:
        for target in value.targets if value.when == MADE else ():
            known = found.get((value.source, target), latency)
            found[value.source, target] = known + per_byte * value.nbytes
    return found


def relaxed(delays: Mapping[tuple[int, int], float], time: Floats, seconds: float) -> Floats | None:
    """How much of each edge's transfer is paid for, from 0 to 1, so that all ends soonest; None if the time is over.

    Args:
        delays: (item, user) -> seconds of the transfer; one at least.
        time: seconds of each item.
        seconds: after which to give up.
    """
    # The variables: that of each edge, the start of each item, the end; in units of the mean time of an item.
    scale = float(time.mean()) or 1.0
    time, delay = time / scale, np.array(list(delays.values())) / scale
    source, target = np.array(list(delays)).T
    edges, items = len(delay), len(time)
    gives = csr_array((np.ones(edges), (np.arange(edges), source)), shape=(edges, items))
    takes = csr_array((np.ones(edges), (np.arange(edges), target)), shape=(edges, items))
    rows: list[list[Any]] = [
        [diags_array(delay), gives - takes, None],  # who takes starts after who gives, and what is paid for
        [-gives.T, None, None],  # of those that take from an item, all but one are paid for
        [-takes.T, None, None],  # of those that give to an item, too
        [None, eye_array(items), csr_array(-np.ones((items, 1)))],
    ]
    most = [-time[source], 1 - gives.sum(axis=0), 1 - takes.sum(axis=0), -time]
    cost = np.concatenate([_TIE * items * delay / max(float(delay.sum()), 1e-300), np.zeros(items), [1.0]])
    bounds: list[tuple[float, float | None]] = [(0.0, 1.0)] * edges + [(0.0, None)] * (items + 1)
    left: Any = block_array(rows, format="csr")
    found = linprog(cost, left, np.concatenate(most), bounds=bounds, options={"time_limit": seconds})
    return None if found.status != 0 or found.x is None else np.asarray(found.x[:edges], dtype=np.float64)


def _of_ops(problem: Problem, coarse: Coarse, items: Mapping[int, int]) -> dict[str, str]:
    """Children of ops: where the largest of what an item hands to its child goes; then, inside of items."""
    size = {name: value.nbytes for name, value in problem.graph.values.items()}
    nbytes = {(edge.source, edge.target): sum(size[name] for name in edge.values) for edge in problem.edges}
    largest = sorted(nbytes, key=lambda edge: -nbytes[edge])
    ends = [(edge, coarse.item_of[edge[0]], coarse.item_of[edge[1]]) for edge in largest]
    between = {items[one]: edge for edge, one, other in reversed(ends) if items.get(one) == other}
    return matched([*between.values(), *(edge for edge, one, other in ends if one == other)])
