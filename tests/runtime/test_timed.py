"""Ops that are timed one by one do what a segment does, and each of them gets its own time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.compiler.graphs import Builder
from torchplace.compiler.graph import Graph
from torchplace.runtime import scripted
from torchplace.runtime.accelerator import Stopwatch, precise_stopwatch
from torchplace.runtime.kernels import make_kernel, whole
from torchplace.runtime.timed import make_timed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "LEAST", 2)


def mixed(size: int = 400) -> Graph:
    """Two runs of ops that TorchScript knows, small ones around a product, and one between that draws numbers."""
    b = Builder()
    x = b.input("x", size, size)
    small = b.op("aten.slice.Tensor", x, 0, 0, 2, shape=(2, size), name="small")
    large = b.op("aten.mm.default", x, x, shape=(size, size), name="large")
    drawn = b.op("aten.bernoulli.p", small, 0.5, shape=(2, size), name="drawn")
    b.graph.ops[-1].random = True
    both = b.op("aten.add.Tensor", drawn, 1, shape=(2, size), name="both")
    last = b.op("aten.neg.default", both, shape=(2, size), name="last")
    b.returns(large, last)
    return b.graph


def timed(graph: Graph, x: torch.Tensor, watch: Stopwatch | None = None) -> tuple[Sequence[Any], list[float]]:
    watch = watch or precise_stopwatch(CPU)
    results = make_timed(graph, CPU, graph.keys(), watch)([x], 7)
    return results, watch.seconds()


def test_results_are_those_of_the_segment() -> None:
    graph, x = mixed(16), torch.randn(16, 16)
    expected = make_kernel(graph, graph.ops, whole(graph), CPU, "cpu:0", graph.keys())([x], 7)
    found, _ = timed(graph, x)
    assert all(map(torch.equal, found, expected))


def test_each_op_has_its_own_time_in_order() -> None:
    graph, x = mixed(), torch.randn(400, 400)
    timed(graph, x)
    _, seconds = timed(graph, x)
    assert len(seconds) == len(graph.ops)
    assert all(s >= 0 for s in seconds)
    # A product of 128 MFLOP against a view and two sums of 800 numbers.
    assert seconds[1] == max(seconds)
    assert seconds[1] > 5 * min(seconds[0], seconds[4])


def test_the_clock_stands_in_the_function_where_torchscript_runs_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = mixed(16), torch.randn(16, 16)
    read: list[int] = []
    monkeypatch.setattr(Stopwatch, "_read", lambda watch: (read.append(1), watch.stamps.append(0.0)))
    watch = Stopwatch(CPU)
    _, seconds = timed(graph, x, watch)
    assert len(seconds) == len(graph.ops)
    assert len(read) == 4  # before all, and behind each of two functions and the op between them


def test_without_torch_jit_python_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = mixed(16), torch.randn(16, 16)
    scripted.in_rows(graph.ops, CPU)

    def gone(*_: object) -> None:
        raise RuntimeError("torch.jit is gone")

    monkeypatch.setattr(torch.jit, "CompilationUnit", gone)
    _, seconds = timed(graph, x)
    assert len(seconds) == len(graph.ops)


def test_a_stopwatch_takes_off_what_reading_it_takes_but_not_from_what_is_put_in() -> None:
    watch = Stopwatch(CPU, reading=1.0)
    watch.stamps = [0.0, 3.0]
    watch.insert([0.5, 0.25])
    watch.stamps += [10.0, 10.5]
    assert watch.seconds() == [2.0, 0.5, 0.25, 0.0]
    assert watch.seconds() == []
