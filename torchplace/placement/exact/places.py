"""Who is where, as variables for what is free to move; what is held is a constant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torchplace.placement.coarse.levels import Unit
from torchplace.placement.coarse.model import Coarse
from torchplace.placement.exact.model import NO, YES, Linear, Model, one, total
from torchplace.placement.exact.routes import Pairs, pairs_between, rectangles


class Places:
    """The devices of all items, in a model.

    Args:
        model: gets a choice for each unit that is free, and a row for each device that may run short of memory.
        coarse: the items.
        placed: where they are: what is held stays there, the others have it as their hint.
        free: the units that may move; the items of each are on one device.
        devices: where to.
        limits: bytes that may stay on each device.
    """

    def __init__(
        self,
        model: Model,
        coarse: Coarse,
        placed: Sequence[int],
        free: Sequence[Unit],
        devices: Collection[int],
        limits: Sequence[int],
    ) -> None:
        self.model, self.coarse, self.placed, self.free = model, coarse, placed, free
        self._unit_of = {item: number for number, unit in enumerate(free) for item in unit}
        self._options: list[Mapping[int, int]] = []  # of each unit: device -> variable
        self._apart: dict[tuple[int, int, Pairs], Linear] = {}
        self._choose(devices, limits)

    def _choose(self, devices: Collection[int], limits: Sequence[int]) -> None:
        sizes = [sum(self.coarse.size[item] for item in unit) for unit in self.free]
        held = self.coarse.held(self.placed)
        for unit, size in zip(self.free, sizes, strict=True):
            held[self.placed[unit[0]]] -= size
        for unit, size in zip(self.free, sizes, strict=True):
            here = self.placed[unit[0]]
            options = [d for d in sorted({*devices, here}) if held[d] + size <= limits[d]] or [here]
            variables = self.model.choice(d == here for d in options)
            self._options.append(dict(zip(options, variables, strict=True)))
        for device, limit in enumerate(limits):
            sums = [one(o[device]).times(size) for o, size in zip(self._options, sizes, strict=True) if device in o]
            if sum(factor for part in sums for _, factor in part.terms) > limit - held[device]:
                self.model.at_most(total(sums), limit - held[device])

    def key(self, item: int) -> int:
        """The same for items that are always on one device: of what is free its unit, else less than 0."""
        return self._unit_of.get(item, -1 - self.placed[item])

    def devices(self, item: int) -> Collection[int]:
        """Where an item may be."""
        number = self._unit_of.get(item)
        return (self.placed[item],) if number is None else self._options[number].keys()

    def at(self, item: int, device: int) -> Linear:
        """1 if an item is on a device."""
        number = self._unit_of.get(item)
        if number is None:
            return YES if self.placed[item] == device else NO
        variable = self._options[number].get(device)
        return NO if variable is None else one(variable)

    def among(self, item: int, devices: Collection[int]) -> Linear:
        """1 if an item is on one of some devices."""
        if all(device in devices for device in self.devices(item)):
            return YES
        return total(self.at(item, device) for device in devices)

    def apart(self, source: int, target: int, pairs: Pairs) -> Linear:
        """`NO`, `YES` or a variable: at least 1 if two items are on some pair of devices."""
        key = (self.key(source), self.key(target), pairs)
        if key not in self._apart:
            cases = [(self.among(source, here), self.among(target, there)) for here, there in rectangles(pairs)]
            self._apart[key] = self.model.any_of(cases)
        return self._apart[key]

    def ways(self, source: int, target: int) -> list[tuple[int, int]]:
        """The pairs of devices that two items may be on, apart from each other."""
        if self.key(source) == self.key(target):
            return []
        return pairs_between(self.devices(source), self.devices(target))

    def chosen(self, values: Sequence[float]) -> list[int]:
        """The placement that a solution of the model stands for."""
        placed = list(self.placed)
        for unit, options in zip(self.free, self._options, strict=True):
            device = max(options, key=lambda d: values[options[d]])
            for item in unit:
                placed[item] = device
        return placed

    def forbid(self, placed: Sequence[int]) -> None:
        """Rule out one placement."""
        here = [self.at(unit[0], placed[unit[0]]) for unit in self.free]
        if NO not in here:
            self.model.at_most(total(here), len(here) - 1)
