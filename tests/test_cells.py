"""The cells of a comparison: what can be wrong is wrong before anything is solved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import torchplace as tp
from torchplace.cells import examples, plan_cells
from torchplace.errors import CaptureError, OptionError, TopologyError
from torchplace.placement.plan import Example

X = torch.ones(2, 4)


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
        return x * by


def cells_of(models: Any, **options: Any) -> list[tuple[str, str, str]]:
    solvers, topologies = options.pop("solvers", "single,heft"), options.pop("topologies", None)
    cells = plan_cells(examples(models, (), None), options, solvers, topologies)
    return [(cell.model, cell.topology, cell.request.solver) for cell in cells]


def test_a_cell_for_each_model_topology_and_solver_in_this_order() -> None:
    models = {"one": (nn.Linear(4, 4), (X,)), "two": (Scaled(), (X,), {"by": X})}
    found = cells_of(models, topologies="big-sur, dgx1-v100", solvers=["heft", "single", "heft"])
    assert found == [
        (model, topology, solver)
        for model in ("one", "two")
        for topology in ("big-sur", "dgx1-v100")
        for solver in ("heft", "single")
    ]


def test_each_model_is_captured_once_and_it_is_told() -> None:
    told: list[str] = []
    models = {"one": Example(nn.Linear(4, 4), (X,)), "": Example(nn.ReLU(), (X,))}
    cells = plan_cells(models, {"topology": "big-sur"}, "single,heft", None, told.append)
    assert told == ["capturing one", "capturing ReLU"]
    assert cells[0].captured is cells[1].captured
    assert [cell.model for cell in cells] == ["one", "one", "ReLU", "ReLU"]
    assert str(cells[1]) == "heft for one on big-sur"


def test_what_comes_of_a_cell() -> None:
    small, large = plan_cells(
        {"": Example(nn.Linear(4, 4), (X,)), "huge": Example(*_huge())}, {"topology": "big-sur"}, "single"
    )
    row = small.row()
    assert row.plan is not None
    assert (row.model, row.topology, row.solver, row.reason) == ("Linear", "big-sur", "single", "")
    assert row.seconds == row.plan.solve_time
    assert row.ops == len(row.plan.placement)
    none = large.row()
    assert none.plan is None
    assert "gpu:0" in none.reason
    assert none.ops > 0


def _huge() -> tuple[nn.Module, tuple[torch.Tensor]]:
    with torch.device("meta"):
        return nn.Sequential(*[nn.Linear(2**15, 2**15) for _ in range(8)]), (torch.empty(1, 2**15),)


def test_one_model_or_several() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4)})
    assert examples(model, (X,), None)[""].model is model, "a module that is a mapping of modules is a model"
    found = examples({"a": (model, X), "b": [model, [X], {"y": X}]}, (), None)
    assert (found["a"].args, found["b"].args, found["b"].kwargs) == ((X,), [X], {"y": X})


@pytest.mark.parametrize(
    ("models", "args", "said"),
    [
        ({}, (), "mapping of models is empty"),
        ({"a": (nn.ReLU(), (X,))}, (X,), r"1 model\(s\) were given by name, and arguments beside them"),
        ({"a": (nn.ReLU(), (X,))}, X, "arguments beside them"),
        ({"a": nn.ReLU()}, (), r"model 'a' is a ReLU; expected \(model, args\)"),
        ({"a": (nn.ReLU(), (X,), {}, 3)}, (), "model 'a' is a tuple"),
        ({"a": (nn.ReLU(), X, X)}, (), "model 'a' is a tuple"),
        ({"a": (nn.ReLU(), 3)}, (), "model 'a' is a tuple"),
    ],
)
def test_what_is_no_model(models: Any, args: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        examples(models, args, None)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"solvers": []}, OptionError, "solvers is empty"),
        ({"solvers": "single,magic"}, OptionError, "magic"),
        ({"topologies": "big-sur,big-sir"}, TopologyError, "big-sir"),
        ({"objectiv": "latency"}, OptionError, "objective"),
    ],
)
def test_mistakes(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        cells_of({"a": (nn.ReLU(), (X,))}, **options)


def test_the_model_that_cannot_be_captured_is_named() -> None:
    with pytest.raises(CaptureError, match="model 'bad': .*nothing to place"):
        tp.compare({"good": (nn.ReLU(), (X,)), "bad": (nn.Identity(), (X,))}, topology="big-sur", solvers="single")
