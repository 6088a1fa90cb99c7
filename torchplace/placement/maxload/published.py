"""Solves published instances, and sets the answers beside results that are known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from time import perf_counter

from rich.table import Table

from torchplace.errors import InstanceError, SolverError
from torchplace.placement.maxload.check import faults, is_contiguous, max_load
from torchplace.placement.maxload.instance import Instance
from torchplace.placement.maxload.peak import forget_peak, peak_mib
from torchplace.placement.maxload.solve import solve

RESULTS = "results.json"
"""Name of the file beside the instances that has what is known of them."""


@dataclass(frozen=True)
class Result:
    """An answer to an instance, checked.

    Attributes:
        instance: its name.
        solver: what found the split.
        max_load: of the split, as the checker computes it.
        lower_bound: no split has less.
        seconds: that it took, bound included.
        peak_mib: peak resident memory of the process while it was solved, MiB.
        contiguous: whether no path of the forward pass leaves a device and comes back.
        split: node id -> device.
    """

    instance: str
    solver: str
    max_load: float
    lower_bound: float
    seconds: float
    peak_mib: float
    contiguous: bool
    split: Mapping[str, str]

    @property
    def gap(self) -> float:
        """How far from the best the split can be, at most."""
        return self.max_load / self.lower_bound - 1 if self.lower_bound > 0 else 0.0


def files(where: str | Path) -> list[Path]:
    """The instances of a directory, or the one file.

    Raises:
        InstanceError: there is none.
    """
    path = Path(where)
    if path.is_file():
        return [path]
    found = sorted(p for p in path.glob("*.json") if p.name != RESULTS)
    if not found:
        raise InstanceError(f"no instance in {str(where)!r}: expected a directory with *.json files, or such a file")
    return found


def solve_file(path: Path, *, contiguous: bool = False, seconds: float = 25.0, seed: int = 0) -> Result:
    """Solve an instance, and check the answer.

    Raises:
        InstanceError: the file is no instance.
        InfeasibleError: nothing was found that fits.
        SolverError: the answer breaks a rule.
    """
    forget_peak()
    begun = perf_counter()
    instance = Instance.load(path)
    answer = solve(instance.problem, contiguous=contiguous, seconds=seconds - (perf_counter() - begun), seed=seed)
    split = instance.split(answer.placed)
    if broken := list(faults(instance, split)):
        raise SolverError(f"solver {answer.solver!r} gave an invalid split of {instance.name!r}: {'; '.join(broken)}")
    load, whole = max_load(instance, split), is_contiguous(instance, split)
    if not math.isclose(load, answer.max_load, rel_tol=1e-9) or (contiguous and not whole):
        raise SolverError(
            f"solver {answer.solver!r} is wrong about its split of {instance.name!r}: it says a largest load of "
            f"{answer.max_load!r}, the checker {load!r}; contiguous: {whole}"
        )
    seconds = perf_counter() - begun
    return Result(instance.name, answer.solver, load, answer.lower_bound, seconds, peak_mib(), whole, split)


def known(where: str | Path) -> Mapping[str, Mapping[str, float]]:
    """Instance -> method -> largest load, from the file beside the instances; nothing where there is none.

    Raises:
        InstanceError: the file is damaged.
    """
    path = Path(where)
    path = (path.parent if path.is_file() else path) / RESULTS
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        return {
            name: {m: r["max_load"] for m, r in entry["methods"].items() if r["max_load"] is not None}
            for name, entry in found.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstanceError(f"known results {str(path)!r} cannot be read: {error!r}") from None


def result_table(results: Sequence[Result], others: Mapping[str, Mapping[str, float]]) -> Table:
    """Ours beside the known ones; at the end the geometric means of the ratios and of the gaps."""
    table = Table(title="max-load", title_justify="left")
    table.add_column("instance")
    for column in ("max-load", "bound", "gap", "seconds", "peak MiB"):
        table.add_column(column, justify="right")
    table.add_column("contiguous")
    table.add_column("solver")
    methods = _methods(results, others)
    for method in methods:
        table.add_column(method, justify="right")
    for r in results:
        table.add_row(
            r.instance,
            f"{r.max_load:.3f}",
            f"{r.lower_bound:.3f}",
            f"{r.gap:.1%}",
            f"{r.seconds:.1f}",
            f"{r.peak_mib:.0f}",
            "yes" if r.contiguous else "no",
            r.solver,
            *_others(others.get(r.instance, {}), methods),
        )
    return table


def _others(found: Mapping[str, float], methods: Sequence[str]) -> Iterator[str]:
    for method in methods:
        yield f"{found[method]:.3f}" if method in found else "-"


def result_text(result: Result) -> str:
    """A result in a line, for while others are still to come."""
    return f"{result.instance}: {result.max_load:.3f}, gap {result.gap:.1%}, {result.seconds:.1f} s"


def summary(results: Sequence[Result], others: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Geometric means: of the gaps, and of ours over each known method's where it has an answer above 0."""
    if not results:
        return []
    lines = [f"gap, geometric mean: {geometric_mean(1 + r.gap for r in results) - 1:.1%}"]
    for method in _methods(results, others):
        pairs = [(r.max_load, others.get(r.instance, {}).get(method, 0.0)) for r in results]
        ratios = [ours / theirs for ours, theirs in pairs if ours > 0 and theirs > 0]
        if ratios:
            lines.append(f"ours over {method}, geometric mean of {len(ratios)}: {geometric_mean(ratios):.3f}")
    return lines


def _methods(results: Sequence[Result], others: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The methods that something is known of."""
    return sorted({method for r in results for method in others.get(r.instance, {})})
