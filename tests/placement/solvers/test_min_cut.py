from __future__ import annotations

import sys

import pytest

from tests.compiler.graphs import Builder, chain
from tests.placement.graphs import Table, machine, perceptron, problem
from torchplace.compiler.graph import Graph
from torchplace.errors import OptionError
from torchplace.placement.check import check
from torchplace.placement.solvers.min_cut import MinCut, is_available
from torchplace.placement.solvers.registry import solver_names


def islands(count: int, size: int) -> Graph:
    """Rings of ops with much to say to each other, written down in turns; little is said between them."""
    b = Builder()
    x = b.input("x", 1)
    ends = []
    for island in range(count):
        ends.append(b.add_op(x, name=f"i{island}_0", shape=(100,)))
    for i in range(1, size):
        ends = [b.add_op(end, name=f"i{island}_{i}", shape=(100,)) for island, end in enumerate(ends)]
    return b.returns(b.add_op(*ends, name="join", shape=(1,)))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymetis", None)
    assert not is_available()
    assert MinCut.name in solver_names()
    with pytest.raises(
        OptionError, match=r"solver 'min-cut' needs the package pymetis; install it, or torchplace\[metis\]"
    ):
        MinCut().solve(problem(chain(2), machine([2**20] * 2)))


needs_metis = pytest.mark.skipif(not is_available(), reason="pymetis is not installed")


@needs_metis
def test_what_talks_much_stays_together() -> None:
    made = problem(islands(4, 5), machine([2**20] * 4, bandwidth=1e4), cost=Table({"join": 0.1}))
    placement = MinCut().solve(made)
    for island in range(4):
        assert len({placement[f"i{island}_{i}"] for i in range(5)}) == 1
    assert len(set(placement.values())) == 4


@needs_metis
def test_a_slow_device_gets_less() -> None:
    made = problem(chain(40), machine([2**20] * 2, [3.0, 1.0], bandwidth=1e9))
    assert 8 <= list(MinCut().solve(made).values()).count("d0") <= 12


@needs_metis
def test_a_seed_gives_one_answer() -> None:
    made = problem(islands(6, 4), machine([2**20] * 3, bandwidth=1e4), objective="throughput")
    for seed in (0, 1, -1, 2**40):
        placement = MinCut().solve(made, seed=seed)
        assert placement == MinCut().solve(made, seed=seed)
        assert check(made, placement) == []


@needs_metis
def test_the_backward_pass_goes_along() -> None:
    made = problem(perceptron((8, 8, 8, 8)), machine([2**20] * 2, bandwidth=1e9), training=True)
    placement = MinCut().solve(made)
    assert all(placement[f"grad{i}"] == placement[f"layer{i}"] for i in range(4))
    assert len(set(placement.values())) == 2


@needs_metis
def test_it_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """METIS writes to the process's standard output where a half has nothing to cut."""
    made = problem(chain(5), machine([2**20] * 9, bandwidth=1e9), cost=Table({"v0": 100.0}))
    MinCut().solve(made)
    assert capfd.readouterr().out == ""
