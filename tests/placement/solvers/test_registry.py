from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given

from tests.compiler.graphs import chain
from tests.placement.graphs import machine, on_another, problem, problems
from torchplace.errors import InfeasibleError, OptionError, SolverError
from torchplace.placement.check import check
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.auto import Auto
from torchplace.placement.solvers.min_cut import is_available
from torchplace.placement.solvers.registry import GROUP, Checked, Solver, get_solver, solver_names

OURS = [
    "anneal",
    "auto",
    "balanced",
    "cp-sat",
    "heft",
    "ideal-dp",
    "kernighan-lin",
    "linear-dp",
    "local-search",
    "m-etf",
    "m-sct",
    "memory-balanced",
    "memory-sequential",
    "milp",
    "min-cut",
    "random",
    "round-robin",
    "single",
    "slice-ga",
]


class Dummy:
    """A plug-in: everything on the last device."""

    name = "dummy"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        return dict.fromkeys(problem.ops, problem.devices[-1])


class Nowhere:
    name = "nowhere"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        return dict.fromkeys(problem.ops, "the moon")


INSTANCE = Dummy()
Plug = Callable[[str, str], None]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Install an entry point: a name, and what it loads from this module."""
    entries: list[EntryPoint] = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: [e for e in entries if e.group == group])
    return lambda name, what: entries.append(EntryPoint(name, f"{__name__}:{what}", GROUP))


def test_names() -> None:
    assert solver_names() == OURS
    assert [get_solver(name).name for name in OURS] == OURS


def test_an_unknown_solver() -> None:
    with pytest.raises(
        OptionError, match=r"unknown solver 'balancd'; did you mean 'balanced'\? \(solvers: anneal, auto, bal"
    ):
        get_solver("balancd")


@pytest.mark.parametrize("what", ["Dummy", "INSTANCE"])
def test_a_plug_in_is_loaded_by_its_entry_point(plug: Plug, what: str) -> None:
    plug("dummy", what)
    assert solver_names() == sorted([*OURS, "dummy"])
    made = problem(chain(2), machine([10**6] * 3))
    assert get_solver("dummy").solve(made) == dict.fromkeys(made.ops, "d2")


def test_auto_asks_plug_ins(plug: Plug) -> None:
    made = problem(chain(2), machine([10**6] * 3))
    plug("nowhere", "Nowhere")
    with pytest.raises(SolverError, match="solver 'nowhere' gave an invalid placement: op 'v0' is on 'the moon'"):
        Auto().solve(made)


def test_a_plug_in_that_cannot_be_loaded(plug: Plug) -> None:
    plug("broken", "no_such_name")
    with pytest.raises(OptionError, match=r"solver 'broken', entry point '.*:no_such_name', cannot be loaded"):
        get_solver("broken")
    made = problem(chain(2), machine([10**6] * 2))
    with pytest.warns(UserWarning, match="solver 'broken'.* cannot be loaded"):
        assert Auto().solve(made) == dict.fromkeys(made.ops, "d0")


def test_our_names_stay_ours(plug: Plug) -> None:
    plug("heft", "Dummy")
    with pytest.warns(UserWarning, match="'heft' is taken"):
        assert solver_names() == OURS
    assert get_solver("heft").name == "heft"


def test_an_invalid_answer_is_the_solvers_fault() -> None:
    with pytest.raises(SolverError, match=r"solver 'nowhere' gave .* 'v4' is on 'the moon'.*; and 2 more$"):
        Checked(Nowhere()).solve(problem(chain(7), machine([10**6])))


def answer(solver: Solver, made: Problem) -> dict[str, str] | str:
    """The placement, or why there is none."""
    try:
        return solver.solve(made, seed=7)
    except InfeasibleError as error:
        return str(error)


INSTALLED = [name for name in OURS if name != "min-cut" or is_available()]


@pytest.mark.parametrize("name", INSTALLED)
@given(made=problems())
def test_every_answer_is_valid_and_the_same_twice(name: str, made: Problem) -> None:
    solver = get_solver(name).solver
    answers = [answer(solver, made), answer(solver, made)]
    assert answers[0] == answers[1]
    if isinstance(answers[0], str):
        assert any(device in answers[0] for device in made.devices)
    else:
        assert check(made, answers[0]) == []
        assert list(answers[0]) == list(made.ops)


@pytest.mark.parametrize("name", INSTALLED)
@given(made=problems())
def test_ample_memory_is_always_enough(name: str, made: Problem) -> None:
    ample = on_another(made, machine([10**9] * len(made.devices)))
    assert check(ample, get_solver(name).solver.solve(ample)) == []
