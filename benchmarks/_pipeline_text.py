"""Text: a result in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks._pipeline_result import ALONE, EAGER, LIMIT, PLACED, RANKS, Result, shares

_SAID = {
    EAGER: "eager, one thread",
    PLACED: "torchplace, two devices",
    RANKS: "torchplace, two ranks",
    LIMIT: "two processes, half each: the limit",
}


def lines(result: Result) -> Iterator[str]:
    """All that is to be said of a result."""
    setting = "same allocator settings and cores" if result.tuned else "out of the box"
    yield f"== {result.case}: {result.microbatches} micro-batches, {result.parameters:,} parameters; {setting}"
    yield f"{'':38} {'step':>12} {'to eager':>9} {'of limit':>9}"
    for name in (n for n in result.times if n != ALONE):
        yield _contestant(result, name)
    for name, reason in result.cannot.items():
        yield f"{_said(name):38} cannot: {reason}"
    yield from _alone(result)
    yield from _plan(result)
    yield f"   eager drifted by {result.drift:+.1%} within the run; slowest over fastest step {result.spread:+.1%}"


def _said(name: str) -> str:
    return _SAID.get(name, name)


def _contestant(result: Result, name: str) -> str:
    share = result.share_of_limit(name)
    of_limit = "" if share is None else f"{share:9.2f}"
    best = "  the best of its schedules" if name == result.best_peer else ""
    return f"{_said(name):38} {result.seconds(name) * 1e3:>9.1f} ms {result.to_eager(name):>9.2f} {of_limit:>9}{best}"


def _alone(result: Result) -> Iterator[str]:
    if ALONE in result.times:
        ms, ratio = result.seconds(ALONE) * 1e3, result.to_eager(ALONE)
        yield f"   on one device, torchplace takes {ms:.1f} ms: {ratio:.3f} of eager; {_predicted(result, ALONE)}"


def _predicted(result: Result, name: str) -> str:
    seconds, error, at_pace = result.facts[name]["predicted"], result.error(name), result.error_at_pace(name)
    return f"predicted {seconds * 1e3:.1f} ms ({error:+.1%}; at the machine's pace before each step {at_pace:+.1%})"


def _plan(result: Result) -> Iterator[str]:
    if PLACED not in result.times:
        return
    facts = result.facts[PLACED]
    made = f"schedule {facts['schedule']}, solver {facts['solver']}, costs {facts['cost']}"
    yield f"   on two: {_predicted(result, PLACED)}; {made}; first call {facts['first_call']:.1f} s"
    if RANKS in result.times:
        yield f"   on two ranks: {_predicted(result, RANKS)}; schedule {result.facts[RANKS]['schedule']}"
    yield f"   ops {_shared(facts['ops'])}"
    yield f"   parameter bytes {_shared(facts['parameter_bytes'])}"
    yield f"   predicted peak bytes {', '.join(f'{d} {n:,}' for d, n in facts['peak_bytes'].items())}"


def _shared(of: Mapping[str, int]) -> str:
    return ", ".join(f"{device} {number:,} ({share:.0%})" for device, number, share in shares(of))
