from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.compiler.graphs import placements
from tests.placement.graphs import Table, machine
from tests.placement.plans import MACHINE, captured
from torchplace.compiler.dry import capture_dry
from torchplace.errors import InfeasibleError
from torchplace.placement.evaluate import Evaluator
from torchplace.placement.planning import Request, evaluation, finish, follow_plan, make_plan, require_capacity


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.first(x))))


[TRAINING] = capture_dry(Net(), (torch.randn(3, 4),), {}, training=True)
REQUEST = Request(MACHINE, cost=Table())


@given(st.data())
def test_every_placement_makes_a_sound_plan(data: st.DataObject) -> None:
    placement = data.draw(placements(TRAINING.graph, MACHINE.device_names))
    plan = finish(Evaluator(TRAINING, MACHINE, Table(), {}), placement, REQUEST, "by chance", 0.0)
    assert plan.predicted.step_time >= plan.lower_bound * (1 - 1e-12)
    assert plan.gap >= -1e-12
    assert plan.placement == placement
    assert plan.training
    assert set(plan.parameters) == {
        "first.weight", "first.bias", "last.weight", "last.bias", "norm.weight", "norm.bias",
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    }  # fmt: skip
    state = [v for v in TRAINING.graph.inputs if v.kind in ("parameter", "buffer")]
    assert sum(plan.parameter_bytes.values()) == sum(v.nbytes for v in state)
    for device, nbytes in plan.parameter_bytes.items():
        assert plan.predicted.peak_memory[device] >= nbytes
    again = finish(Evaluator(TRAINING, MACHINE, Table(), {}), placement, REQUEST, "by chance", 0.0)
    assert (again.predicted, again.lower_bound) == (plan.predicted, plan.lower_bound)


def test_the_bound_of_a_training_step_is_that_of_both_parts() -> None:
    placement = dict.fromkeys((op.name for op in TRAINING.graph.ops), "d0")
    alone = machine([1 << 20])
    plan = finish(Evaluator(TRAINING, alone, Table(), {}), placement, Request(alone, cost=Table()), "single", 0.0)
    assert plan.lower_bound == plan.predicted.step_time == len(TRAINING.graph.ops)
    assert plan.gap == 0.0


def test_making_a_plan() -> None:
    plan = make_plan(TRAINING, Request(MACHINE, solver="balanced", cost=Table(), seed=3, pins={"first": "d2"}))
    assert (plan.solver, plan.seed, plan.cost, plan.objective) == ("balanced", 3, "table", "latency")
    assert plan.parameters["first.weight"] == "d2"
    assert plan.solve_time > 0
    assert plan.programs
    assert plan.timeline is not None


def test_following_state_that_lives_somewhere() -> None:
    fixed = {"first.weight": "d1", "first.bias": "d1", "last.weight": "d2", "last.bias": "d2"}
    plan = follow_plan(TRAINING, REQUEST, fixed)
    assert plan.solver == "follow"
    assert {plan.parameters[name] for name in ("first.weight", "first.bias")} == {"d1"}
    assert {plan.parameters[name] for name in ("last.weight", "last.bias")} == {"d2"}


def test_what_a_solver_is_told() -> None:
    graph = captured()
    placement = dict.fromkeys((op.name for op in graph.graph.ops), "d0")
    told = evaluation(Evaluator(graph, MACHINE, Table(), {}), placement)
    assert (told.step_time, told.feasible, told.reason) == (8.0, True, "")
    small = machine([64, 64])
    told = evaluation(Evaluator(graph, small, Table(), {}), placement)
    assert not told.feasible
    assert told.reason.startswith("the placement does not fit: d0 needs ")


def test_devices_without_room_are_named_with_the_bytes_that_they_lack() -> None:
    require_capacity({"d0": 100, "d1": 50}, machine([100, 50]))
    require_capacity({}, machine([1]))
    with pytest.raises(InfeasibleError) as caught:
        require_capacity({"d0": 100, "d1": 2**30 + 50, "d2": 7}, machine([99, 50, 7]))
    assert str(caught.value) == (
        "the placement does not fit: d0 needs 100 bytes (0.00 GiB), has 99, lacks 1; "
        f"d1 needs {2**30 + 50} bytes (1.00 GiB), has 50, lacks {2**30}"
    )


def test_a_plan_that_does_not_fit_is_not_made() -> None:
    small = machine([64, 1 << 20])
    placement = dict.fromkeys((op.name for op in TRAINING.graph.ops), "d0")
    with pytest.raises(InfeasibleError, match="the placement does not fit: d0 needs"):
        finish(Evaluator(TRAINING, small, Table(), {}), placement, Request(small, cost=Table()), "single", 0.0)


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.left(x) + self.right(x)


def test_as_the_link_slows_the_plan_changes_from_two_devices_to_one() -> None:
    """A tower is 4 products, 4 s; the other device works on it if the link carries x there and its end back in less.

    Each is 48 bytes, so the break-even is near 24 bytes/s; the views between the products count as ops here, too.
    """
    [towers] = capture_dry(Towers(), (torch.randn(3, 4),), {}, training=False)
    products = {op.name: 1.0 for op in towers.graph.ops if "addmm" in op.target}
    used, seconds = [], []
    for bandwidth in (1e6, 200.0, 50.0, 40.0, 8.0, 1.0):
        request = Request(machine([2**20] * 2, bandwidth=bandwidth), cost=Table(products, default=0.0))
        plan = make_plan(towers, request)
        used.append(len({plan.placement[name] for name in products}))
        seconds.append(plan.predicted.step_time)
    assert used == [2, 2, 2, 2, 1, 1]
    assert seconds == sorted(seconds)
    assert seconds[0] == pytest.approx(4.0, rel=1e-2)
    assert seconds[-1] == pytest.approx(8.0)
