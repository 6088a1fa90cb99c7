"""Segments as TorchScript functions do what Python does with the same ops, to the last bit."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.compiler.graphs import Builder, tensor
from torchplace.compiler.graph import HERE, Graph, Op
from torchplace.compiler.instructions import Run
from torchplace.errors import ExecutionError
from torchplace.runtime import scripted
from torchplace.runtime.kernels import Kernel, Maker, make_kernel
from torchplace.runtime.scripted import Scripted, make_scripted

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "LEAST", 2)


def whole(graph: Graph) -> Run:
    outputs = dict.fromkeys(v.name for v in graph.output_values)
    return Run("whole", tuple(v.name for v in graph.inputs), tuple(outputs))


def made(graph: Graph, maker: Maker = make_scripted) -> Kernel:
    return maker(graph, graph.ops, whole(graph), CPU, "cpu:0", graph.keys())


def functions(graph: Graph) -> list[Any]:
    return [row for row in scripted.in_rows(graph.ops, CPU) if isinstance(row, list)]


def single(target: str, *args: Any, **kwargs: Any) -> Graph:
    """A graph of two ops, `target(x, *args, **kwargs)` the second."""
    b = Builder()
    b.op("aten.mul.Tensor", b.input("x", 3, 4), 2.0, shape=(3, 4), name="twice")
    b.graph.ops.append(Op("last", target, (b.graph.ops[0].outputs[0], *args), kwargs))
    b.graph.ops[-1].outputs = (type(b.graph.inputs[0])("last", tensor(3, 4), b.graph.ops[-1]),)
    b.returns(b.graph.ops[-1].outputs[0])
    return b.graph


@pytest.mark.parametrize(
    ("target", "args", "kwargs"),
    [
        ("aten.add.Tensor", (1,), {}),
        ("aten.add.Tensor", (-0.1,), {"alpha": 3}),
        ("aten.div.Tensor", (1e-30,), {}),
        ("aten.clamp.default", (-math.inf, 0.25), {}),
        ("aten.pow.Tensor_Scalar", (2,), {}),
        ("aten.elu.default", (1,), {}),
        ("aten.leaky_relu.default", (-1,), {}),
        ("aten.sum.dim_IntList", ([],), {}),
        ("aten.mean.dim", ([0, -1], True), {"dtype": torch.float64}),
        ("aten._to_copy.default", (), {"dtype": torch.bfloat16, "device": HERE}),
        ("aten.clone.default", (), {"memory_format": torch.contiguous_format}),
        ("aten.full_like.default", (3,), {"pin_memory": False}),
        ("aten.new_full.default", ([2, 3], math.nan), {"device": HERE, "layout": torch.strided}),
        ("aten.gelu.default", (), {"approximate": "tanh"}),
        ("aten.slice.Tensor", (1, 0, 9223372036854775807, 2), {}),
        ("aten.view.default", ([4, 3],), {}),
    ],
)
def test_arguments_mean_what_they_mean_in_python(target: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    graph, x = single(target, *args, **kwargs), torch.linspace(-1, 2, 12).view(3, 4)
    (found,), (expected,) = made(graph)([x], 0), made(graph, make_kernel)([x], 0)
    assert len(functions(graph)) == 1, "TorchScript knows it"
    assert found.dtype == expected.dtype
    assert found.stride() == expected.stride()
    assert torch.equal(torch.nan_to_num(found), torch.nan_to_num(expected))


def test_an_overload_that_does_something_else_is_left_to_python() -> None:
    graph = single("aten.pow.Scalar", torch.tensor(2.0))
    graph.ops[-1].args = (2, graph.ops[0].outputs[0])  # a number to the power of a tensor
    assert torch.equal(made(graph)([torch.ones(3, 4)], 0)[0], torch.full((3, 4), 4.0))
    graph.ops[-1].rewire((graph.ops[0].outputs[0],) * 2)
    source = scripted._source(graph.ops[-1:], ["twice"], ["last"], CPU)
    assert scripted._takes(source, "aten.pow.Tensor_Tensor")
    assert not scripted._takes(source, "aten.pow.Scalar")


def test_values_are_freed_after_their_last_use() -> None:
    """As many bytes live at a time as with Python: an input that is used first is gone before the last op runs."""
    b = Builder()
    x = b.input("x", 4)
    b.op("aten.neg.default", x, name="a")
    b.op("aten.neg.default", b.graph.ops[-1].outputs[0], name="b")
    b.returns(b.graph.ops[-1].outputs[0])
    given: list[Any] = [torch.ones(4)]
    gone = weakref.ref(given[0])
    (piece,) = scripted.pieces([b.graph.ops], whole(b.graph), CPU, "cpu:0")
    assert isinstance(piece, Scripted)
    made(b.graph)(given, 0)
    assert given == []
    assert gone() is None
    args = piece.box([torch.ones(4)])
    piece(args)
    assert len(args) == 0, "while it runs, too, nobody else holds them"


def test_what_ops_make_of_nothing_is_new_memory_each_time() -> None:
    b = Builder()
    b.op("aten.full.default", [4], 1.0, name="ones")
    b.op("aten.mul.Tensor", b.input("x", 4), b.graph.ops[0].outputs[0], name="y")
    b.returns(b.graph.ops[0].outputs[0], b.graph.ops[1].outputs[0])
    kernel = made(b.graph)
    first = kernel([torch.ones(4)], 0)
    first[0].zero_()
    assert torch.equal(kernel([torch.ones(4)], 0)[0], torch.ones(4))


def test_python_calls_what_draws_random_numbers_in_the_midst() -> None:
    b = Builder()
    x = b.op("aten.neg.default", b.op("aten.neg.default", b.input("x", 64), shape=(64,)), shape=(64,))
    drawn = b.op("aten.bernoulli.p", x, 0.5, shape=(64,), random=True)
    b.returns(b.op("aten.neg.default", b.op("aten.neg.default", drawn, shape=(64,)), shape=(64,)))
    assert [len(row) for row in functions(b.graph)] == [2, 2]
    found, again, other = (made(b.graph)([torch.ones(64)], seed)[0] for seed in (1, 1, 2))
    assert torch.equal(found, again)
    assert not torch.equal(found, other)
    assert torch.equal(found, made(b.graph, make_kernel)([torch.ones(64)], 1)[0])


def test_a_dispatch_mode_sees_every_op() -> None:
    seen: list[str] = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    kernel, given = made(single("aten.neg.default")), [torch.ones(3, 4)]
    with Mode():
        kernel(given, 0)
    assert seen == ["aten.mul.Tensor", "aten.neg.default"]


def test_the_op_that_fails_is_named() -> None:
    graph = single("aten.mm.default", torch.ones(3))
    graph.ops[-1].args = (graph.ops[0].outputs[0], graph.ops[0].outputs[0])
    assert len(functions(graph)) == 1
    with pytest.raises(
        ExecutionError, match=r"op 'last' \(aten.mm.default\) failed on device cpu:0: .*3x4 and 3x4"
    ) as raised:
        made(graph)([torch.ones(3, 4)], 0)
    assert "TorchScript" not in str(raised.value)
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_memory_that_runs_out_is_told_as_torch_does() -> None:
    (piece,) = scripted.pieces([single("aten.neg.default").ops], Run("whole", ("x",), ("last",)), CPU, "cpu:0")
    assert isinstance(piece, Scripted)
    text = 'Traceback\n  File "<string>", line 4, in segment\nRuntimeError: CUDA out of memory. Tried to allocate'
    op, cause = piece._failed(RuntimeError(text))
    assert op is piece.ops[1]
    assert isinstance(cause, torch.OutOfMemoryError)


def test_without_torch_jit_python_calls_all(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = single("aten.neg.default")
    scripted.in_rows(graph.ops, CPU)

    def fail(*_: object) -> Callable[..., Any]:
        raise RuntimeError("torch.jit is gone")

    monkeypatch.setattr(torch.jit, "CompilationUnit", fail)
    assert torch.equal(made(graph)([torch.ones(3, 4)], 0)[0], torch.full((3, 4), -2.0))


def test_autocast_around_a_call_changes_nothing() -> None:
    b = Builder()
    x = b.input("x", 4, 4)
    b.op("aten.mm.default", x, x, shape=(4, 4), name="a")
    b.returns(b.op("aten.mm.default", b.graph.ops[0].outputs[0], x, shape=(4, 4)))
    from torchplace.compiler.dynamo import below_autograd

    with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), below_autograd():
        (found,) = made(b.graph)([torch.full((4, 4), 1.001)], 0)
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.full((4, 4), 1.001) @ torch.full((4, 4), 1.001) @ torch.full((4, 4), 1.001))
