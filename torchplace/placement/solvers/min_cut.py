"""min-cut: parts as heavy as devices are fast, that hand each other as few bytes as can be; by METIS."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from torchplace.errors import OptionError
from torchplace.placement.coarse.bisection import Ties
from torchplace.placement.coarse.ideals import Floats
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.parts import place_parts

MAX_UNITS, CUTS = 2000, 4
"""Larger graphs are contracted; so many bisections are tried, of which METIS takes the best."""
_STEPS = 10**8
"""Into so many steps all weights, and all bytes, are divided: METIS counts in whole numbers."""


class MinCut:
    """The graph cut into one part for each device, by weight, with as few bytes between parts as can be.

    Karypis and Kumar, "A fast and high quality multilevel scheme for partitioning irregular graphs" (SIAM J. Sci.
    Comput. 20, 1998): METIS, through the package `pymetis` (extra `metis`), cuts the graph in two, a part for each half
    of the devices in the topology's order, and so on (`bisected`). The direction of what is handed over, which METIS
    does not know, is restored (`acyclic`), or not, whichever is better (`place_parts`). Ops of the backward pass go
    with those of the forward pass that they belong to (`attach`).

    Limits: what counts is all bytes, not those of the busiest link, nor who waits for whom. A value that several parts
    take counts for each op that takes it. `pymetis` balances one weight a unit: it is time, and bytes are mixed in only
    where memory does not suffice. Graphs of more than 2,000 units are contracted. The seed is that of METIS; answers
    may differ between machines, for it draws from the C library. Cost: near-linear in the ops.
    """

    name: ClassVar[str] = "min-cut"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Cut the graph.

        Raises:
            OptionError: `pymetis` is not installed.
            InfeasibleError: no placement that fits was found.
        """
        metis = _pymetis()

        def bisect(ties: Ties, weights: Floats, share: float) -> Sequence[int]:
            return _bisect(metis, ties, weights, share, seed)

        return place_parts(problem, self.name, MAX_UNITS, bisect, time_limit)


def is_available() -> bool:
    """Whether `pymetis` is installed."""
    return find_spec("pymetis") is not None


def _pymetis() -> Any:
    try:
        return importlib.import_module("pymetis")
    except ImportError as error:
        raise OptionError(
            f"solver {MinCut.name!r} needs the package pymetis; install it, or torchplace[metis] ({error})"
        ) from error


def _bisect(metis: Any, ties: Ties, weights: Floats, share: float, seed: int) -> Sequence[int]:
    starts, others, nbytes = [0], list[int](), list[int]()
    for near in ties:
        others += near.keys()
        nbytes += near.values()
        starts.append(len(others))
    found = metis.part_graph(
        2,
        metis.CSRAdjacency(starts, others),
        vweights=np.rint(weights * (_STEPS / max(weights.sum(), 1e-300))).astype(int).tolist(),
        eweights=np.maximum(1, np.rint(np.array(nbytes) * (_STEPS / max(1, sum(nbytes))))).astype(int).tolist(),
        tpwgts=[share, 1 - share],
        options=metis.Options(seed=seed % 2**31, ncuts=CUTS),
    )
    sides: Sequence[int] = list(found.vertex_part)
    return sides
