"""The public interface: what a user writes, works; what they get wrong, is said."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import torchplace as tp
from torchplace.placement.solvers.heft import Heft


class Net(nn.Module):
    """Two layers, a buffer that is updated, a tied weight."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """[n, width] -> [n, width]."""
        return self.b(self.norm(self.a(x)).relu()) * scale


X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def test_compile_keeps_the_module_what_it_was() -> None:
    model = Net()
    keys, parameters = list(model.state_dict()), dict(model.named_parameters())
    assert tp.compile(model, topology="local:2", solver="round-robin") is model
    assert type(model) is Net
    model(X)
    assert list(model.state_dict()) == keys
    assert all(model.get_parameter(n) is p for n, p in parameters.items())
    model.eval()
    assert not model.norm.training


def test_training_follows_eager_through_an_optimizer(one_thread: None) -> None:
    """Adam makes a step of a gradient that is nothing but rounding, so that has to be the same."""
    torch.manual_seed(0)
    eager = Net()
    model = tp.compile(copy.deepcopy(eager), topology="local:2", solver="random", seed=3)
    for m in (eager, model):
        optimizer = torch.optim.AdamW(m.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(m(X), X).backward()
            optimizer.step()
    for (name, a), b in zip(eager.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_the_decorator_bare_and_with_options() -> None:
    @tp.compile
    class Bare(Net):
        """Compiled when first called."""

    @tp.compile(topology="local:3", solver="round-robin")
    class Given(Net):
        """Compiled with options."""

    for cls, devices in ((Bare, 2), (Given, 3)):
        model = cls().eval()
        expected = Net.forward(model, X)
        torch.testing.assert_close(model(X), expected)
        assert len(tp.plans(model)[0].topology.devices) == devices
        other = cls().eval()
        assert other(X).shape == expected.shape
        assert tp.plans(other) is not tp.plans(model)


def test_a_function_of_tensors() -> None:
    @tp.compile(topology="local:2", solver="round-robin")
    def attend(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Scores of queries against keys."""
        return (q @ k.T).softmax(-1)

    torch.testing.assert_close(attend(X, X), (X @ X.T).softmax(-1))
    assert attend.__name__ == "attend"
    assert set(tp.plans(attend)[0].devices_used) == {"cpu:0", "cpu:1"}


def test_as_a_dynamo_backend() -> None:
    model = Net().eval()
    compiled = torch.compile(model, backend="torchplace", options={"topology": "local:2", "solver": "round-robin"})
    torch.testing.assert_close(compiled(X), Net.forward(model, X))


def test_a_graph_break_still_runs_each_piece_placed() -> None:
    class Broken(nn.Module):
        """Its second half depends on a value."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            torch._dynamo.graph_break()
            return self.b(y).relu()

    model = Broken()
    expected = model.b(model.a(X)).relu()
    tp.compile(model, topology="local:2", solver="round-robin")
    torch.testing.assert_close(model(X), expected)
    assert len(tp.plans(model)) == 2
    dry = tp.plan(Broken(), (X,), topology="local:2")
    assert len(dry.rest) == 1
    with pytest.raises(tp.CaptureError, match="Broken"):
        tp.plan(Broken(), (X,), topology="local:2", fullgraph=True)


def test_later_graphs_are_placed_around_the_parameters() -> None:
    model = tp.compile(Net(), topology="local:2", solver="random", seed=1)
    model(X)
    homes = tp.plans(model)[0].parameter_devices()
    model.eval()(torch.cat([X, X, X]))
    _, *later = tp.plans(model)
    assert later
    for plan in later:
        assert {n: homes[n] for n in plan.parameter_devices()} == plan.parameter_devices()


def test_a_plan_made_dry_is_the_plan_that_runs(tmp_path: Path) -> None:
    model = Net()
    plan = tp.plan(model, (X,), topology="local:3", solver="random", seed=5, training=True)
    plan.save(tmp_path / "plan.json")
    loaded = tp.Plan.load(tmp_path / "plan.json")
    placed = tp.compile(model, plan=loaded)
    placed(X).sum().backward()
    (used,) = tp.plans(placed)
    assert used.placement == plan.placement
    assert used.parameter_devices() == plan.parameter_devices()


def test_a_plan_of_a_meta_model_is_taken_by_the_real_one() -> None:
    with torch.device("meta"):
        meta = Net()
    plan = tp.plan(meta, (X.to("meta"),), topology="local:2", solver="random", training=True)
    assert all(p.is_meta for p in meta.parameters())
    placed = tp.compile(Net(), plan=plan)
    placed(X).sum().backward()
    assert tp.plans(placed)[0].placement == plan.placement


def test_planning_runs_nothing_and_leaves_the_model_alone() -> None:
    model = Net()
    before = {n: (p, p.clone()) for n, p in model.state_dict(keep_vars=True).items()}
    tp.plan(model, (X,), topology="big-sur", training=True)
    after = model.state_dict(keep_vars=True)
    assert all(after[n] is p and torch.equal(p, value) for n, (p, value) in before.items())


def test_rehearsing_another_machine() -> None:
    model = Net().eval()
    expected = model(X)
    placed = tp.compile(model, topology="big-sur", solver="round-robin", rehearse=True)
    torch.testing.assert_close(placed(X), expected)
    assert len(tp.plans(placed)[0].devices_used) > 2
    with pytest.raises(tp.OptionError, match="rehearse=True"):
        tp.compile(Net(), topology="big-sur")


def test_pins_are_obeyed() -> None:
    plan = tp.plan(Net(), (X,), topology="local:3", pins={"norm": "cpu:2"}, training=True)
    assert plan.parameters["norm.weight"] == "cpu:2"


def test_compiled_modules_copy_and_pickle() -> None:
    model = tp.compile(Net().eval(), topology="local:2", solver="round-robin")
    expected = model(X)
    torch.testing.assert_close(copy.deepcopy(model)(X), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(X), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "hefty"}, "heft"),
        ({"topology": "big-sir"}, "big-sur"),
        ({"topology": "local:0"}, "local:0|0"),
        ({"solvr": "heft"}, "solver"),
        ({"codegen": True}, "not there yet"),
        ({"objective": "beauty"}, "latency"),
        ({"cost": "free"}, "roofline"),
        ({"time_limit": -1}, "time_limit"),
        ({"pins": ["a"]}, "pins"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(tp.TorchplaceError, match=message):
        tp.compile(Net(), **options)


def test_a_plan_for_another_model_or_topology_is_refused() -> None:
    plan = tp.plan(Net(), (X,), topology="local:2", training=True)
    with pytest.raises(tp.PlanError, match="another graph"):
        tp.compile(nn.Linear(8, 8), plan=plan)(X)
    with pytest.raises(tp.PlanError, match="local"):
        tp.compile(Net(), plan=plan, topology="local:3")
    with pytest.raises(tp.PlanError, match="training=False"), torch.no_grad():
        tp.compile(Net(), plan=plan)(X)


def test_plans_of_what_is_not_compiled() -> None:
    with pytest.raises(tp.OptionError, match="Net"):
        tp.plans(Net())
    with pytest.raises(tp.OptionError, match=r"nn\.Module"):
        tp.compile(3)


def test_a_model_that_is_too_large_says_which_device_lacks_what() -> None:
    with torch.device("meta"):
        model = nn.Sequential(*[nn.Linear(2**15, 2**15) for _ in range(32)])
    with pytest.raises(tp.InfeasibleError, match=r"gpu:\d.*(GiB|bytes)"):
        tp.plan(model, (torch.empty(1, 2**15, device="meta"),), topology="big-sur")


def test_compare_has_a_row_for_each_solver(capsys: pytest.CaptureFixture[str]) -> None:
    rows = tp.compare(Net(), (X,), topology="big-sur", solvers="single,balanced,heft", training=True)
    assert [row.solver for row in rows] == ["single", "balanced", "heft"]
    assert all(row.plan is not None for row in rows)
    assert capsys.readouterr().out.strip() == str(rows)
    assert rows.title.startswith("Net (")


def test_compare_takes_several_models() -> None:
    came: list[str] = []
    models = {"net": (Net(), (X,)), "line": (nn.Linear(8, 8), X)}
    rows = tp.compare(models, topology="big-sur", solvers="single", on_row=lambda row: came.append(row.model))
    assert came == ["net", "line"] == [row.model for row in rows]
    assert rows[0].plan is not None
    assert rows[0].plan.placement == tp.plan(Net(), (X,), topology="big-sur", solver="single").placement


def test_an_interrupted_comparison_prints_what_has_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Heft, problem: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Heft, "solve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tp.compare(Net(), (X,), topology="big-sur", solvers="single,heft,balanced")
    printed = capsys.readouterr().out
    assert "single" in printed
    assert "balanced" not in printed
