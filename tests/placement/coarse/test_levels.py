from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import chain
from tests.placement.graphs import machine, perceptron, problem, problems
from torchplace.placement.coarse.levels import levels
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.problem import Problem


@given(problems(), st.integers(1, 12), st.integers(1, 4))
def test_each_level_refines_the_one_before(made: Problem, most: int, chunks: int) -> None:
    coarse = Coarse.of(made, most)
    found = levels(coarse, chunks)
    for units in found:
        items = [item for unit in units for item in unit]
        assert len(items) == len(set(items))
        assert all(coarse.pinned[item] < 0 for item in items)
        for unit in coarse.units:
            assert len({i for i, other in enumerate(units) if set(unit) & set(other)}) <= 1, "what is together stays so"
    for coarser, finer in pairwise(found):
        assert len(coarser) < len(finer)
        of = {item: i for i, unit in enumerate(coarser) for item in unit}
        assert all(len({of.get(item) for item in unit}) == 1 for unit in finer)


def test_a_layers_gradients_move_with_it_until_the_last_level() -> None:
    coarse = Coarse.of(problem(perceptron(), machine([10**6] * 2), training=True), 100)
    chunks, layers, single = levels(coarse, 1)

    def names(units: list[tuple[int, ...]]) -> list[set[str]]:
        return [{op for item in unit for op in coarse.items[item]} for unit in units]

    assert len(chunks) == 1
    assert names(layers) == [{"layer0", "grad0"}, {"layer1", "grad1", "back1"}, {"layer2", "grad2", "back2"}]
    assert all(len(unit) == 1 for unit in single)


def test_runs_are_of_about_equal_time() -> None:
    coarse = Coarse.of(problem(chain(12), machine([10**6] * 2)), 100)
    assert [len(unit) for unit in levels(coarse, 4)[0]] == [3, 3, 3, 3]
