"""What `benchmarks.quality` prints: a line for each result, a table for each objective, means, and missed targets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks._ratios import AUTO, CLASSICAL, RATIOS, TARGETS, USUAL, Case, Result, mean, verdict

HEAD = f"{'model':13} {'topology':18} {'objective':10} {'solver':28} {'value':>11} {'devices':>7} {'planned in':>10}"
_MEANS = ("auto/best", "auto/usual", "bound/usual", "auto/classical", "bound/classical")
_TITLES = f"{'/best':>7} {'/usual':>7} {'(bound)':>7} {'/class.':>7} {'(bound)':>7}"


def line(result: Result) -> str:
    """A result, as it comes."""
    what = f"{result.model:13} {result.topology:18} {result.objective:10} {result.title or result.solver:28}"
    if result.value is None:
        return f"{what} {result.reason.split(':')[0]:>11} {'':7} {result.seconds:8.1f} s"
    return f"{what} {milliseconds(result.value)} {result.devices:7} {result.seconds:8.1f} s"


def milliseconds(seconds: float) -> str:
    """In a column of 11."""
    return f"{seconds * 1e3:8.3f} ms"


def ratio(value: float | None) -> str:
    """In a column of 7."""
    if value is None:
        return f"{'-':>7}"
    return f"{'no plan' if value == math.inf else format(value, '.3f'):>7}"


def tables(found: Sequence[Case]) -> str:
    """Everything at the end."""
    objectives = dict.fromkeys(case.key[2] for case in found)
    blocks = ["\n".join(_table(o, [c for c in found if c.key[2] == o])) for o in objectives]
    return "\n".join(["", *blocks, *_means("all", found), "", *_targets(found), *_notes(found)])


def _table(objective: str, found: Sequence[Case]) -> Iterator[str]:
    yield f"== {objective}: {AUTO} over the best of the others, over {USUAL}, over the best of {', '.join(CLASSICAL)}"
    yield f"{'model':13} {'topology':18} {AUTO:>11} {_TITLES} {'gap':>7}  {'taken by auto':20} best of the others"
    yield from map(_row, found)
    yield from _means(objective, found)
    yield ""


def _row(case: Case) -> str:
    model, topology, _ = case.key
    if not case.fits:
        return f"{model:13} {topology:18} nothing fits"
    if AUTO in case.results and case.auto == math.inf:
        return f"{model:13} {topology:18} {'no plan':>11}, but {case.best} has one: {case.results[AUTO].reason}"
    taken = case.results[AUTO].title.removeprefix(f"{AUTO} ") if AUTO in case.results else ""
    value = milliseconds(case.auto) if AUTO in case.results else f"{'':11}"
    ratios = " ".join(ratio(f(case)) if AUTO in case.results else f"{'':7}" for f in RATIOS.values())
    gap = f"{case.gap:7.1%}" if AUTO in case.results else f"{'':7}"
    best = f"{case.best} {case.value(case.best) * 1e3:.3f} ms" if case.best else ""
    return f"{model:13} {topology:18} {value} {ratios} {gap}  {taken:20} {best}"


def _means(what: str, found: Sequence[Case]) -> Iterator[str]:
    asked = [case for case in found if AUTO in case.results]
    yield f"{'geometric mean':13} {what:18} {'':10} " + " ".join(ratio(mean(name, asked)) for name in _MEANS)


def _targets(found: Sequence[Case]) -> Iterator[str]:
    """How many cases keep each target, and those that do not."""
    asked = [case for case in found if AUTO in case.results]
    for name, (target, possible) in TARGETS.items():
        verdicts = {case.key: verdict(case, name) for case in asked}
        counts = ", ".join(f"{n} {what}" for what, n in Counter(verdicts.values()).items())
        yield f"{name} at most {target}: {counts or 'no case'}"
        for case in asked:
            if verdicts[case.key] in ("missed", "out of reach"):
                yield f"  {_missed(case, name, possible)}"


def _missed(case: Case, name: str, possible: str | None) -> str:
    least = None if possible is None else RATIOS[possible](case)
    reach = "" if least is None else f"; no plan is below {least:.3f}"
    best = f"; {case.best} is the best" if possible is None else ""
    value = RATIOS[name](case)
    return f"{' '.join(case.key)}: {'no plan' if value == math.inf else format(value, '.3f')}{reach}{best}"


def _notes(found: Sequence[Case]) -> Iterator[str]:
    """What no ratio says: where only the default finds a plan, where nothing fits, and what broke."""
    alone = [c for c in found if c.auto < math.inf and c.value(USUAL) == math.inf and USUAL in c.results]
    if alone:
        yield f"{AUTO} has a plan where {USUAL} finds none: " + "; ".join(" ".join(c.key) for c in alone)
    nothing = [c for c in found if not c.fits]
    if nothing:
        yield "nothing fits: " + "; ".join(" ".join(c.key) for c in nothing)
    for result in (r for case in found for r in case.results.values() if r.reason.startswith("fails")):
        yield f"{' '.join(result.key)}: {result.solver} {result.reason}"


def summary(found: Sequence[Case]) -> dict[str, dict[str, float | None]]:
    """Geometric means of the ratios, for each objective and in all."""
    asked = [case for case in found if AUTO in case.results]
    groups = {o: [c for c in asked if c.key[2] == o] for o in dict.fromkeys(c.key[2] for c in asked)}
    return {what: {name: mean(name, some) for name in RATIOS} for what, some in {**groups, "all": asked}.items()}
