"""The placement problem: what is to be placed, on what, and under which constraints; apart from any solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import NamedTuple

from torchplace.compiler.graph import Graph, Op
from torchplace.errors import OptionError
from torchplace.placement.cost.communication import AlphaBeta
from torchplace.placement.cost.compute import ComputeCost
from torchplace.placement.cost.workspace import WorkspaceCost
from torchplace.placement.estimate import estimate
from torchplace.placement.evaluation import Evaluation
from torchplace.placement.forbids import forbidden_devices
from torchplace.placement.groups import colocation_groups, state_groups
from torchplace.placement.hints import Hint, Wishes, read_hints
from torchplace.placement.memory import parameter_gradients, saved_bytes, state_bytes, transient_bytes
from torchplace.placement.owners import owner_ops, owners
from torchplace.placement.pins import resolve_pins
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.topology import Topology

__all__ = ["Edge", "Evaluate", "Evaluation", "Problem"]

Evaluate = Callable[[Mapping[str, str]], Evaluation]
"""Says what a placement (op name -> device) would cost."""


class Edge(NamedTuple):
    """What one op hands to another: names of the producer, the consumer, and the values."""

    source: str
    target: str
    values: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Problem:
    """Ops to be placed on devices. Made by `Problem.build`; a solver only reads it.

    A placement is a mapping from every op's name to a device's name. Resident memory adds up over ops: an op
    brings its `op_bytes` to whichever device it is placed on.

    Attributes:
        graph: the ops themselves.
        topology: the devices, and the links between them.
        cost: seconds of an op on a device.
        training: the graph has a backward pass whose gradients are kept.
        groups: every op in exactly one group; a group is on one device. In the order of their first ops.
        pins: op name -> device, for ops that are fixed; whole groups at a time.
        forbidden: op name -> devices that it must not be on, where there are any; the same for all of a group.
        op_bytes: op name -> resident bytes that it brings: state that it owns, activations of it that are saved.
        state_bytes: input name -> bytes on its owner, for parameters (with their gradients and optimizer state),
            buffers and constants.
        fixed_bytes: device name -> resident bytes that no placement changes (state that no op uses).
        transient_bytes: bytes that come and go if one device ran all, at most: a reserve to pack with.
        objective: what is to be small, one of `objective.OBJECTIVES`.
        microbatches: that go through the graph in a step, one behind the other.
        hints: what was asked for, and of which ops: what `groups`, `pins` and `forbidden` come from.
        evaluator: says what a placement costs; None means the estimate of `estimate.py`.
    """

    graph: Graph
    topology: Topology
    cost: ComputeCost
    training: bool
    groups: tuple[tuple[str, ...], ...]
    pins: Mapping[str, str]
    forbidden: Mapping[str, frozenset[str]]
    op_bytes: Mapping[str, int]
    state_bytes: Mapping[str, int]
    fixed_bytes: Mapping[str, int]
    transient_bytes: int
    objective: str = "latency"
    microbatches: int = 1
    hints: tuple[Hint, ...] = ()
    evaluator: Evaluate | None = None
    _columns: dict[Device, dict[str, float]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def build(
        cls,
        graph: Graph,
        topology: Topology,
        cost: ComputeCost,
        *,
        training: bool,
        objective: str = "latency",
        pins: Mapping[str, str] | None = None,
        together: Sequence[Sequence[str]] = (),
        forbid: Mapping[str, Sequence[str]] | None = None,
        evaluate: Evaluate | None = None,
        optimizer: Mapping[str, int] | None = None,
        workspace: WorkspaceCost | None = None,
        microbatches: int = 1,
    ) -> Problem:
        """State the problem of placing a graph on a topology.

        Args:
            graph: what to place; forward alone, or forward and backward. Devices that its ops ask for are pins.
            topology: where to.
            cost: seconds of an op on a device.
            training: whether gradients are kept, and activations saved.
            objective: what is to be small.
            pins: op name, pattern or module path (`Patterns`) -> device.
            together: for each group, the patterns of what stays on one device.
            forbid: pattern -> devices that its ops must not be on.
            evaluate: says what a placement costs; by default an estimate that knows no contention.
            optimizer: input name -> bytes of optimizer state beside a parameter.
            workspace: bytes that an op takes on a device while it runs; by default none.
            microbatches: that go through the graph in a step; what state they write is read where it is.

        Raises:
            OptionError: a hint matches nothing, or names a device that does not exist.
            InfeasibleError: two hints clash, or ops are forbidden all devices; names the hints.
        """
        devices = topology.device_names
        hints = read_hints(graph, devices, Wishes(pins or {}, together, forbid))
        kept = [hint.ops for hint in hints if hint.kind == "together"]
        groups = colocation_groups(graph, [*kept, *(state_groups(graph) if microbatches > 1 else ())])
        forbidden = forbidden_devices(graph, groups, hints, devices)
        state = state_bytes(graph, training=training, optimizer=optimizer)
        op_bytes, unowned = _op_bytes(graph, state, training)
        return cls(
            graph=graph,
            topology=topology,
            cost=cost,
            training=training,
            groups=groups,
            pins=resolve_pins(graph, groups, hints, forbidden, devices),
            forbidden=forbidden,
            op_bytes=op_bytes,
            state_bytes=state,
            fixed_bytes={device: unowned if device == devices[0] else 0 for device in devices},
            transient_bytes=transient_bytes(graph, training=training, workspace=_hungriest(topology, workspace)),
            objective=objective,
            microbatches=microbatches,
            hints=hints,
            evaluator=evaluate,
        )

    @property
    def steady(self) -> bool:
        """Whether what counts is how long the busiest device or link is busy: then pipelines are full."""
        return self.objective == "throughput" or (self.objective == "step" and self.microbatches > 1)

    @cached_property
    def ops(self) -> tuple[str, ...]:
        """Names of the ops, in an order in which they can run."""
        return tuple(op.name for op in self.graph.ops)

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices, in the topology's order."""
        return self.topology.device_names

    @cached_property
    def by_name(self) -> Mapping[str, Op]:
        """The ops by their names."""
        return {op.name: op for op in self.graph.ops}

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Who hands what to whom, each pair once; consumers in program order."""
        edges = []
        for op in self.graph.ops:
            taken: dict[str, list[str]] = {}
            for value in op.inputs:
                if value.producer is not None:
                    taken.setdefault(value.producer.name, []).append(value.name)
            edges += [Edge(source, op.name, tuple(values)) for source, values in taken.items()]
        return tuple(edges)

    @cached_property
    def capacity(self) -> Mapping[str, int]:
        """Device name -> bytes."""
        return {device.name: device.memory for device in self.topology.devices}

    @cached_property
    def links(self) -> AlphaBeta:
        """Seconds of a transfer between two devices."""
        return AlphaBeta(self.topology)

    def allows(self, op: str, device: str) -> bool:
        """Whether no hint forbids an op (and so its group) a device; pins are apart from this. Cost: constant."""
        return device not in self.forbidden.get(op, ())

    def duration(self, op: str, device: str) -> float:
        """Seconds that an op takes on a device. Cost: the first call for each kind of device is linear in the ops."""
        return self.durations(device)[op]

    def durations(self, device: str) -> Mapping[str, float]:
        """Op name -> seconds on a device; devices that are alike share one mapping.

        Raises:
            OptionError: the cost model answers with no time.
        """
        twin = self._twins[device]
        column = self._columns.get(twin)
        if column is None:
            actual = self.topology.device(device)
            column = self._columns[twin] = {op.name: self._time(op, actual) for op in self.graph.ops}
        return column

    def _time(self, op: Op, device: Device) -> float:
        time = self.cost.time(op, device)
        if not (isfinite(time) and time >= 0):
            raise OptionError(
                f"cost {self.cost.name!r} gives {time!r} for op {op.name!r} on {device.name!r}, "
                "expected seconds, 0 or more"
            )
        return time

    @cached_property
    def _twins(self) -> dict[str, Device]:
        """Device name -> what it is, name and memory apart: equal for devices on which every op takes as long."""
        return {d.name: replace(d, name="any", torch_device="cpu", memory=1) for d in self.topology.devices}

    def delay(self, value: str, source: str, target: str) -> float:
        """Seconds that a value takes from one device to another, with nobody else on the way."""
        return self.links.time(source, target, self._nbytes[value])

    @cached_property
    def _nbytes(self) -> dict[str, int]:
        return {name: value.nbytes for name, value in self.graph.values.items()}

    @cached_property
    def owner_ops(self) -> Mapping[str, str | None]:
        """Input name -> the op that decides where this state lives; None for state that no op uses."""
        return owner_ops(self.graph)

    @cached_property
    def gradients(self) -> Mapping[str, tuple[str, ...]]:
        """Name of a gradient that the graph returns -> names of the parameters whose gradient it is."""
        return parameter_gradients(self.graph)

    def owners(self, placement: Mapping[str, str]) -> dict[str, str]:
        """Input name -> the device that owns it, for parameters, buffers and constants."""
        return owners(self.graph, placement, self.devices[0])

    def resident(self, placement: Mapping[str, str]) -> dict[str, int]:
        """Device name -> bytes that stay on it: state, gradients, saved activations. Cost: linear in the ops."""
        load = dict(self.fixed_bytes)
        for op, nbytes in self.op_bytes.items():
            load[placement[op]] += nbytes
        return load

    def fits(self, placement: Mapping[str, str], limits: Mapping[str, int] | None = None) -> bool:
        """Whether what stays fits every device's capacity (or other limits, in bytes)."""
        limits = self.capacity if limits is None else limits
        return all(load <= limits[device] for device, load in self.resident(placement).items())

    def limits(self, reserve: float) -> dict[str, int]:
        """Device name -> bytes to pack with, if a share of the transient bytes (0 to 1) is kept free on each."""
        kept_free = int(reserve * self.transient_bytes)
        return {device: max(0, size - kept_free) for device, size in self.capacity.items()}

    def evaluate(self, placement: Mapping[str, str]) -> Evaluation:
        """What a placement costs: by the evaluator that was given, or else by estimate."""
        return estimate(self, placement) if self.evaluator is None else self.evaluator(placement)


def _op_bytes(graph: Graph, state: Mapping[str, int], training: bool) -> tuple[dict[str, int], int]:
    """Resident bytes that each op brings, and those of state that no op uses."""
    brought = {op.name: 0 for op in graph.ops} | saved_bytes(graph, training=training)
    unowned = 0
    for name, op in owner_ops(graph).items():
        if op is None:
            unowned += state[name]
        else:
            brought[op] += state[name]
    return brought, unowned


def _hungriest(topology: Topology, workspace: WorkspaceCost | None) -> Callable[[Op], int]:
    """Workspace of an op on the sort of device that needs most for it."""
    sorts = {(d.kind, d.threads): d for d in topology.devices}.values()
    return lambda op: 0 if workspace is None else max(workspace(op, device) for device in sorts)
