from __future__ import annotations

import itertools
from collections.abc import Sequence

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import FLOAT, Table, machine, problem
from torchplace.compiler.graph import Graph
from torchplace.placement.check import check
from torchplace.placement.coarse.bisection import Ties
from torchplace.placement.coarse.ideals import Floats
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.parts import place_parts

W = 4 * FLOAT


def by_number(ties: Ties, weights: Floats, share: float) -> Sequence[int]:
    """The first units, to the nearest weight, and the rest."""
    return [
        int(total - weight / 2 > share * weights.sum()) for total, weight in zip(weights.cumsum(), weights, strict=True)
    ]


def placed(made: Problem) -> list[str]:
    placement = place_parts(made, "x", 100, by_number, 10.0)
    assert check(made, placement) == []
    return list(placement.values())


def test_parts_are_as_heavy_as_devices_are_fast() -> None:
    made = problem(chain(8), machine([2**20] * 2, [3.0, 1.0], bandwidth=1e9))
    assert placed(made) == ["d0"] * 2 + ["d1"] * 6


def test_a_device_that_is_busy_with_what_is_pinned_gets_less() -> None:
    pins, cost = {"v0": "d0"}, Table({"v0": 4.0})
    made = problem(chain(9), machine([2**20] * 2, bandwidth=1e9), pins=pins, cost=cost)
    assert placed(made) == ["d0"] * 3 + ["d1"] * 6
    made = problem(chain(4), machine([2**20] * 2, bandwidth=1e9), pins=pins, cost=cost)
    assert placed(made) == ["d0"] + ["d1"] * 3


def test_where_memory_is_short_bytes_count_in_the_weights() -> None:
    b = Builder()
    at = b.input("x", 1)
    for i in range(8):  # the first two take most of the time, and no bytes
        at = b.add_op(at, *([b.parameter(f"w{i}", 4)] if i > 1 else []), name=f"v{i}", shape=(1,))
    cost = Table({"v0": 10.0, "v1": 10.0})
    graph = b.returns(at)
    assert placed(problem(graph, machine([2**20] * 2, bandwidth=1e9), cost=cost)) == ["d0"] + ["d1"] * 7
    assert placed(problem(graph, machine([3 * W + 12] * 2, bandwidth=1e9), cost=cost)).count("d1") == 3


def test_the_better_by_the_model_is_taken() -> None:
    """Two chains side by side, cut across: as they are each device hands back at once what it was handed."""

    def alternate(ties: Ties, weights: Floats, share: float) -> Sequence[int]:
        return [unit % 2 for unit in range(len(weights))]

    made = problem(chain(8), machine([2**20] * 2, bandwidth=8.0))
    placement = place_parts(made, "x", 100, alternate, 10.0)
    devices = list(placement.values())
    assert sum(one != other for one, other in itertools.pairwise(devices)) <= 1


def test_without_time_one_attempt_is_made() -> None:
    made = problem(chain(8), machine([2**20] * 2, bandwidth=1e9))
    assert len(set(place_parts(made, "x", 100, by_number, 0.0).values())) == 2


def test_more_devices_than_units_and_no_unit() -> None:
    assert len(set(placed(problem(chain(2), machine([2**20] * 5, bandwidth=1e9))))) == 2
    assert placed(problem(Graph("empty"), machine([1] * 2))) == []
