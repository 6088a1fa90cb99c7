"""The solvers by name: ours, and those that other packages bring as entry points."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

from torchplace.errors import OptionError, SolverError
from torchplace.placement.check import check
from torchplace.placement.problem import Problem
from torchplace.placement.topology.checks import did_you_mean

GROUP = "torchplace.solvers"
"""Group of the entry points that bring solvers: a name, and a class without arguments or an instance."""


class Solver(Protocol):
    """Finds a placement. `torchplace.placement.solvers.conformance.check_solver` checks one in a line."""

    @property
    def name(self) -> str:
        """What the option `solver` calls it."""

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Place every op.

        Args:
            problem: what to place, and where to; not to be changed.
            seed: the same seed gives the same answer, where time does not run out.
            time_limit: seconds after which a search should come to its end.

        Returns:
            Op name -> device name, valid by `check`.

        Raises:
            InfeasibleError: no placement that fits was found; says which device lacks how many bytes.
        """


@dataclass(frozen=True)
class Checked:
    """A solver whose answers are checked before anybody relies on them.

    Attributes:
        solver: who solves.
    """

    solver: Solver

    @property
    def name(self) -> str:
        """What the option `solver` calls it."""
        return self.solver.name

    @property
    def title(self) -> str:
        """The name, and of a solver that asks others, whose answer it took last: `auto (heft)`."""
        chosen = getattr(self.solver, "chosen", "")
        return f"{self.name} ({chosen})" if chosen else self.name

    def solve(self, problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> dict[str, str]:
        """Place every op; see `Solver.solve`.

        Raises:
            InfeasibleError: no placement that fits was found.
            SolverError: the answer breaks a rule of the problem; names the first faults.
        """
        placement = self.solver.solve(problem, seed=seed, time_limit=time_limit)
        if faults := check(problem, placement):
            more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise SolverError(f"solver {self.name!r} gave an invalid placement: {'; '.join(faults[:5])}{more}")
        return placement


def solver_names() -> list[str]:
    """Names of all solvers, ours and those of other packages, sorted."""
    return sorted({*_builtin(), *_entry_points()})


def get_solver(name: str) -> Checked:
    """The solver of a name; its answers are checked.

    Raises:
        OptionError: there is none (the message lists those there are), or another package's cannot be loaded.
    """
    if make := _builtin().get(name):
        return Checked(make())
    entry = _entry_points().get(name)
    if entry is None:
        names = solver_names()
        raise OptionError(f"unknown solver {name!r}{did_you_mean(str(name), names)} (solvers: {', '.join(names)})")
    try:
        loaded = entry.load()
        return Checked(loaded() if isinstance(loaded, type) else loaded)
    except Exception as error:  # whatever another package's import may raise
        raise OptionError(f"solver {name!r}, entry point {entry.value!r}, cannot be loaded: {error}") from error


def _builtin() -> dict[str, Callable[[], Solver]]:
    # Imported here, for `auto` asks this registry for all others.
    from torchplace.placement.solvers.anneal import Anneal
    from torchplace.placement.solvers.auto import Auto
    from torchplace.placement.solvers.balanced import Balanced
    from torchplace.placement.solvers.cp_sat import CpSat
    from torchplace.placement.solvers.heft import Heft
    from torchplace.placement.solvers.ideal_dp import IdealDp
    from torchplace.placement.solvers.kernighan_lin import KernighanLin
    from torchplace.placement.solvers.linear_dp import LinearDp
    from torchplace.placement.solvers.local_search import LocalSearch
    from torchplace.placement.solvers.m_etf import MemoryEtf
    from torchplace.placement.solvers.m_sct import MemorySct
    from torchplace.placement.solvers.memory_balanced import MemoryBalanced
    from torchplace.placement.solvers.memory_sequential import MemorySequential
    from torchplace.placement.solvers.milp import Milp
    from torchplace.placement.solvers.min_cut import MinCut
    from torchplace.placement.solvers.random import Random
    from torchplace.placement.solvers.round_robin import RoundRobin
    from torchplace.placement.solvers.single import Single
    from torchplace.placement.solvers.slice_ga import SliceGa

    solvers: tuple[Callable[[], Solver], ...] = (
        *(Single, Random, RoundRobin, MemorySequential, MemoryBalanced, Balanced, LinearDp, Heft, MemoryEtf, MemorySct),
        *(IdealDp, MinCut, KernighanLin, LocalSearch, Anneal, SliceGa, CpSat, Milp, Auto),
    )
    return {solver().name: solver for solver in solvers}


def _entry_points() -> dict[str, metadata.EntryPoint]:
    """Other packages' solvers by name, sorted; a name of ours stays ours."""
    found: dict[str, metadata.EntryPoint] = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        if entry.name in _builtin() or entry.name in found:
            warnings.warn(f"solver {entry.value!r} is ignored: {entry.name!r} is taken", stacklevel=3)
        else:
            found[entry.name] = entry
    return found
