"""Which hints stand in the way: their names, for the errors that say why nothing fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from torchplace.placement.infeasible import human_bytes
from torchplace.placement.problem import Problem
from torchplace.placement.topology.checks import listed


def pinned_bytes(problem: Problem, devices: Collection[str]) -> str:
    """What each hint puts on some devices, the most first: `: pin 'h.1': 'gpu:0' puts 2.0 GiB on gpu:0`."""
    put: Counter[tuple[str, str]] = Counter()
    for group in problem.groups:
        if (device := problem.pins.get(group[0])) in devices:
            put[_who_pins(problem, group), str(device)] += sum(problem.op_bytes[op] for op in group)
    said = [f"{who} puts {human_bytes(nbytes)} on {device}" for (who, device), nbytes in put.most_common()]
    return f": {listed(said)}" if said else ""


def _who_pins(problem: Problem, group: Sequence[str]) -> str:
    """The pin of a group; where it has none, what is forbidden to it leaves this device alone."""
    about = [hint for hint in problem.hints if not set(group).isdisjoint(hint.ops)]
    pin = next((hint.text for hint in about if hint.kind == "pin"), "")
    return pin or " and ".join(hint.text for hint in about if hint.kind == "forbid")


def about(problem: Problem, group: Sequence[str]) -> str:
    """The hints that keep a group together, or off devices, as a clause; empty where there are none."""
    texts = [h.text for h in problem.hints if h.kind != "pin" and not set(group).isdisjoint(h.ops)]
    return f" by {' and '.join(texts)}" if texts else ""


def in_force(problem: Problem) -> str:
    """All hints, as a clause; empty where there are none."""
    return f"; hints in force: {listed(hint.text for hint in problem.hints)}" if problem.hints else ""
