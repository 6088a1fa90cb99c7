from __future__ import annotations

import pytest

from torchplace.errors import InfeasibleError, SolverError
from torchplace.placement.problem import Problem
from torchplace.placement.solvers.conformance import check_solver, impossible_problems, solvable_problems
from torchplace.placement.solvers.min_cut import is_available
from torchplace.placement.solvers.pack import pack
from torchplace.placement.solvers.registry import get_solver, solver_names
from torchplace.placement.solvers.single import Single


@pytest.mark.parametrize("name", [n for n in solver_names() if n != "min-cut" or is_available()])
def test_ours_conform(name: str) -> None:
    check_solver(get_solver(name).solver)


class Broken:
    """Solves as `single` does, but for what a test breaks."""

    name = "broken"

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        return self.spoil(problem, Single().solve(problem))

    def spoil(self, problem: Problem, placement: dict[str, str]) -> dict[str, str]:
        return placement


class Forgetful(Broken):
    def spoil(self, problem: Problem, placement: dict[str, str]) -> dict[str, str]:
        return dict(list(placement.items())[1:])


class Unpinned(Broken):
    def spoil(self, problem: Problem, placement: dict[str, str]) -> dict[str, str]:
        return dict.fromkeys(placement, problem.devices[0])


class Moody(Broken):
    def spoil(self, problem: Problem, placement: dict[str, str]) -> dict[str, str]:
        self.mood = not getattr(self, "mood", False)
        return placement if self.mood else dict.fromkeys(placement, problem.devices[-1])


class Meddling(Broken):
    def spoil(self, problem: Problem, placement: dict[str, str]) -> dict[str, str]:
        problem.pins.update(placement)  # type: ignore[attr-defined]
        return placement


class Careless(Broken):
    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        return pack(problem, problem.capacity)


class Vague(Broken):
    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        raise InfeasibleError("no")


class Crashing(Broken):
    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        raise KeyError("oops")


class Nameless(Broken):
    name = ""


@pytest.mark.parametrize(
    ("solver", "fault"),
    [
        (Forgetful(), "one op: op 'layer0' has no device"),
        (Unpinned(), "pins: op 'layer0' is pinned to 'device:1', but placed on 'device:0'"),
        (Unpinned(), "three devices, the first without memory: device 'device:0' holds"),
        (Moody(), "three devices, the first without memory: two runs with the same seed give two answers"),
        (Meddling(), "two devices: it changes the problem"),
        (Careless(), "all devices too small: it answers, though nothing fits"),
        (Vague(), "one device: it says that nothing fits, but memory is ample: no"),
        (Vague(), "an op too large for any device: its InfeasibleError names no device: no"),
        (Crashing(), "no op: it raises KeyError('oops')"),
        (Nameless(), "it has no name"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Broken) else "",
)
def test_each_promise_that_is_broken_is_named(solver: Broken, fault: str) -> None:
    with pytest.raises(SolverError) as error:
        check_solver(solver)
    assert fault in str(error.value)


def test_the_suites_problems_are_what_they_say() -> None:
    assert len({what for what, _ in [*solvable_problems(), *impossible_problems()]}) == 19
    assert all(problem.graph.check() is None for _, problem in solvable_problems())
