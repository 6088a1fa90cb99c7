"""Fitted costs: regressions on the store, one for each family of ops, for shapes that were never measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torchplace.compiler.graph import Op
from torchplace.placement.cost.compute import ComputeCost, Roofline, threads_used
from torchplace.placement.cost.families import family_of, kind_of, places, terms
from torchplace.placement.cost.features import features
from torchplace.placement.cost.regression import Regression, fit, stack
from torchplace.placement.cost.signature import signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey, Sample
from torchplace.placement.topology.device import Device

LEAST = 8
"""Samples that a family needs for a regression of its own; with fewer, that of its kind stands in."""


@dataclass(frozen=True)
class Fit:
    """How well the regression of a family or kind holds.

    Attributes:
        name: of the family or kind.
        samples: how many it was fitted to.
        error: mean of |predicted / measured - 1| over samples that were left out, weighted by their time.
    """

    name: str
    samples: int
    error: float


class _Table:
    """The regressions of one sort of device."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.groups: dict[str, list[Sample]] = {}
        for sample in samples:
            if sample.features and sample.seconds > 0:
                for name in _names(sample.target, sample.features):
                    self.groups.setdefault(name, []).append(sample)
        self._regressions: dict[str, Regression] = {}
        self._known: dict[str, float] = {}

    def seconds(self, op: Op) -> float | None:
        """Seconds of an op; None where not a sample is there."""
        key = signature_key(op)
        if key not in self._known:
            found = features(op)
            name = self._best(_names(op.target, found))
            if name is None:
                return None
            predicted = self.regression(name).predict(stack([terms(found)]), stack([places(found)]))
            self._known[key] = float(predicted[0])
        return self._known[key]

    def _best(self, names: tuple[str, ...]) -> str | None:
        """The narrowest group that has samples enough; the widest that has any."""
        there = [name for name in names if name in self.groups]
        return next((name for name in there if len(self.groups[name]) >= LEAST), there[-1] if there else None)

    def regression(self, name: str) -> Regression:
        """The regression of a group, fitted when it is first asked for."""
        if name not in self._regressions:
            samples = self.groups[name]
            rows = [(terms(s.features), places(s.features), s.seconds) for s in samples]
            lines, spots, seconds = zip(*rows, strict=True)
            self._regressions[name] = fit(stack(lines), stack(spots), stack([seconds])[0])
        return self._regressions[name]


def _names(target: str, found: Mapping[str, float]) -> tuple[str, ...]:
    """The groups that an op belongs to, from narrow to wide."""
    return family_of(target, found), f"kind {kind_of(target, found)}", "all"


class Fitted:
    """Time of an op by regression on the store, whatever its shapes.

    Ops of one family, and else of one kind (`families`), are alike enough for the cost of some to tell that of others:
    `regression` says how. Where the store has nothing of a sort of device, another cost is asked.

    Cost: a family's regression is fitted when an op of it is first asked for, cubic in its samples (of which no more
    than `regression.MOST` count); an op's prediction is kept by its signature.

    Args:
        store: of measured costs, read when a sort of device is first asked for.
        fallback: for sorts of devices that the store knows nothing of.
    """

    name = "fitted"

    def __init__(self, store: CostStore | None = None, fallback: ComputeCost | None = None) -> None:
        self.store = store or CostStore()
        self.fallback: ComputeCost = fallback or Roofline()
        self._tables: dict[DeviceKey, _Table] = {}
        self._keys: dict[Device, DeviceKey] = {}

    def time(self, op: Op, device: Device) -> float:
        """Seconds that `op` takes on `device`."""
        found = self._table(device).seconds(op)
        return self.fallback.time(op, device) if found is None else found

    def demand(self, op: Op, device: Device) -> float:
        """Cores that it keeps busy (`threads_used`)."""
        return threads_used(op, device)

    def fits(self, device: Device) -> list[Fit]:
        """The regressions of a sort of device and their errors: families, then kinds, then that of all ops."""
        table = self._table(device)
        used = [n for n, samples in table.groups.items() if len(samples) >= LEAST or n.startswith("kind ")]
        return [Fit(n, len(table.groups[n]), table.regression(n).error) for n in sorted(used, key=_wideness)]

    def error(self, ops: Iterable[Op], device: Device) -> float:
        """Expected |predicted / true - 1| of an op's time: the mean over ops, weighted by their predicted time."""
        table, total, weight = self._table(device), 0.0, 0.0
        for op in ops:
            seconds, name = table.seconds(op), table._best(_names(op.target, features(op)))
            if seconds is not None and name is not None:
                total += seconds * table.regression(name).error
                weight += seconds
        return total / weight if weight else 0.0

    def _table(self, device: Device) -> _Table:
        key = self._keys.get(device)
        if key is None:
            key = self._keys[device] = DeviceKey.of(device)
        if key not in self._tables:
            self._tables[key] = _Table(self.store.samples(key))
        return self._tables[key]


def _wideness(name: str) -> tuple[bool, str]:
    return name.startswith("kind "), name
