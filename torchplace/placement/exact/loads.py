"""Throughput as a model: seconds for which devices compute and links carry bytes in a step."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torchplace.placement.coarse.model import Handed
from torchplace.placement.exact.model import NO, YES, Linear, Model, total
from torchplace.placement.exact.places import Places
from torchplace.placement.exact.routes import Pairs, busy_links, pairs_between, shared

_BUSIEST = 1 - 1e-5
"""Of the longest time that is of interest: what is busy for so long is the busiest."""


def state_loads(model: Model, places: Places, counted: Collection[int] | None) -> None:
    """Add the load of every device and link, and the busiest as the goal: the max-load of `coarse.loads`.

    With all counted, and all items free, its least is the least there is (Tarnawski et al., "Efficient Algorithms for
    Device Placement of DNN Graph Operators", NeurIPS 2020, section 4, where pieces need not be contiguous; a link's
    time is counted on the link).

    Args:
        model: gets the rows.
        places: where the items are.
        counted: devices that the goal is about; all that is not only stays within the model's limit, but for what is
            the busiest now. None: all devices and links.

    Cost: O(values x pairs of devices x links of a route) rows at most; what is held makes none.
    """
    goal = model.time()
    model.goals.append(goal)
    loads = [(counted is None or number in counted, load) for number, load in enumerate(_compute(model, places))]
    loads += [(counted is None, load) for load in _Links(model, places).loads()]
    for counts, load in loads:
        if counts or load.value(model.hint) >= model.scale.steps * _BUSIEST:
            model.at_least(goal, load)
        elif load.terms:
            model.at_most(load, model.scale.steps)


def _compute(model: Model, places: Places) -> list[Linear]:
    coarse = places.coarse
    held = [0.0] * len(coarse.devices)
    parts: list[list[Linear]] = [[] for _ in held]
    for item in range(len(coarse.items)):
        for device in places.devices(item):
            seconds, at = coarse.time[coarse.kind_of[device]][item], places.at(item, device)
            if at == YES:
                held[device] += seconds
            else:
                parts[device].append(at.times(model.steps(seconds)))
    return [total([Linear(constant=model.steps(h)), *p]) for h, p in zip(held, parts, strict=True)]


class _Links:
    """What goes over each link."""

    def __init__(self, model: Model, places: Places) -> None:
        self.model, self.places, self.coarse = model, places, places.coarse
        self.held: dict[int, float] = {}  # link -> seconds, whatever is chosen
        self.parts: dict[int, list[Linear]] = {}
        for value in self.coarse.sent:
            self._add(value)

    def loads(self) -> list[Linear]:
        """The loads that are not the same whatever is chosen, of links that may be the busiest."""
        devices = range(len(self.coarse.devices))
        busy = busy_links(self.coarse, pairs_between(devices, devices)) if self.parts else set()
        held = {link: Linear(constant=self.model.steps(self.held.get(link, 0.0))) for link in self.parts}
        return [total([held[link], *parts]) for link, parts in self.parts.items() if link in busy]

    def _add(self, value: Handed) -> None:
        """A value goes once to each device that takes it."""
        targets = list({self.places.key(target): target for target in value.targets}.values())
        if len(targets) == 1:
            pairs = shared(self.coarse, self.places.ways(value.source, targets[0]))
            for link, (per_byte, users) in pairs.items():
                self._carry(link, value.nbytes * per_byte, self.places.apart(value.source, targets[0], users))
            return
        for device in sorted({d for target in targets for d in self.places.devices(target)}):
            self._deliver(value, device, [self.places.at(target, device) for target in targets])

    def _deliver(self, value: Handed, device: int, takers: Sequence[Linear]) -> None:
        used = self.model.any_of([(YES, taker) for taker in takers])
        pairs = shared(self.coarse, pairs_between(self.places.devices(value.source), (device,)))
        flags: dict[Pairs, Linear] = {}
        for link, (per_byte, users) in pairs.items():
            if users not in flags:
                here = self.places.among(value.source, {a for a, _ in users})
                flags[users] = self.model.any_of([(here, used)])
            self._carry(link, value.nbytes * per_byte, flags[users])

    def _carry(self, link: int, seconds: float, flag: Linear) -> None:
        if flag == YES:
            self.held[link] = self.held.get(link, 0.0) + seconds
        elif flag != NO:
            self.parts.setdefault(link, []).append(flag.times(self.model.steps(seconds)))
