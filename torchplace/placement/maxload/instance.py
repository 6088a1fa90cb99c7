"""Published problems of max-load: the JSON format of Microsoft's `dnn-partitioning` (Tarnawski et al. 2020).

A file names nodes with times on an accelerator ("FPGA") and on a CPU, bytes, and edges with the time that the source's
output takes between an accelerator and host memory. CPUs are host memory: they pay for no transfer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import networkx as nx
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from torchplace.errors import InstanceError
from torchplace.placement.maxload.problem import Flags, Handed, Ints, Kind, LoadProblem

ACCELERATOR, CPU = 0, 1
"""Numbers of the kinds of devices."""


class Node(BaseModel):
    """An op or a layer.

    Attributes:
        id: unique.
        name: for people.
        supported: whether an accelerator can run it.
        cpu, accelerator: time that it takes on each.
        backward: whether it is of the backward pass.
        color: nodes of one colour share a device.
        size: bytes.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: int
    name: str = ""
    supported: bool = Field(default=True, alias="supportedOnFpga")
    cpu: float = Field(alias="cpuLatency", ge=0)
    accelerator: float = Field(alias="fpgaLatency", ge=0)
    backward: bool = Field(default=False, alias="isBackwardNode")
    color: int | None = Field(default=None, alias="colorClass")
    size: float = Field(default=0.0, ge=0)


class Edge(BaseModel):
    """What one node takes of another.

    Attributes:
        source, target: ids of nodes.
        cost: time to move the source's output between an accelerator and host memory.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    source: int = Field(alias="sourceId")
    target: int = Field(alias="destId")
    cost: float = Field(ge=0)


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    accelerators: int = Field(alias="maxFPGAs", ge=0)
    cpus: int = Field(alias="maxCPUs", ge=0)
    capacity: float = Field(alias="maxSizePerFPGA", ge=0)
    nodes: list[Node] = Field(min_length=1)
    edges: list[Edge]

    @model_validator(mode="after")
    def _fits_together(self) -> _File:
        ids = Counter(node.id for node in self.nodes)
        if len(ids) < len(self.nodes):
            raise ValueError(f"node {ids.most_common(1)[0][0]} is there twice; ids must be unique")
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in ids:
                    raise ValueError(f"edge {edge.source} -> {edge.target} names node {end}, which there is not")
        if self.accelerators + self.cpus == 0:
            raise ValueError("maxFPGAs and maxCPUs are both 0; there must be a device")
        return self


@dataclass(frozen=True)
class Instance:
    """A published problem, and what it says of max-load.

    Attributes:
        name: of the file.
        nodes, edges: the graph.
        accelerators, cpus: how many devices there are.
        capacity: bytes of an accelerator; a CPU's are not limited.
    """

    name: str
    nodes: Sequence[Node]
    edges: Sequence[Edge]
    accelerators: int
    cpus: int
    capacity: float

    @classmethod
    def load(cls, path: str | Path) -> Instance:
        """Read a file.

        Raises:
            InstanceError: there is no such file, or it is not of this form; says what is wrong with it.
        """
        try:
            file = _File.model_validate(json.loads(Path(path).read_text()))
        except OSError as error:
            raise InstanceError(f"cannot read instance {str(path)!r}: {error.strerror or error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise InstanceError(f"instance {str(path)!r}: {where}: {first['msg']}") from None
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end
            raise InstanceError(f"instance {str(path)!r} is not JSON: {error}") from None
        found = cls(Path(path).stem, file.nodes, file.edges, file.accelerators, file.cpus, file.capacity)
        found._check(path)
        return found

    def _check(self, path: str | Path) -> None:
        graph = nx.DiGraph([(e.source, e.target) for e in self.edges])
        if not nx.is_directed_acyclic_graph(graph):
            cycle = " -> ".join(str(source) for source, _ in nx.find_cycle(graph))
            raise InstanceError(f"instance {str(path)!r}: the edges have a cycle, {cycle}; expected none")

    @cached_property
    def item_of(self) -> Mapping[int, int]:
        """Node id -> number of the item that it belongs to: its colour's, or its own."""
        numbers: dict[tuple[str, int], int] = {}
        return {
            node.id: numbers.setdefault(("id", node.id) if node.color is None else ("color", node.color), len(numbers))
            for node in self.nodes
        }

    @cached_property
    def problem(self) -> LoadProblem:
        """The problem, one item for each node or colour."""
        items = max(self.item_of.values()) + 1
        time, size, forward = np.zeros((2, items)), np.zeros(items), np.zeros(items, dtype=bool)
        for node in self.nodes:
            item = self.item_of[node.id]
            time[ACCELERATOR, item] += node.accelerator if node.supported else np.inf
            time[CPU, item] += node.cpu
            size[item] += node.size
            forward[item] |= not node.backward
        kinds = Kind("fpga", self.accelerators, self.capacity), Kind("cpu", self.cpus, np.inf)
        return LoadProblem(self.name, kinds, time, size, tuple(self._values()), tuple(self._arcs(forward)))

    def _values(self) -> Iterator[Handed]:
        """Values, those with the same makers and takers as one."""
        targets: dict[int, set[int]] = {}
        costs: dict[int, float] = {}
        for edge in self.edges:
            targets.setdefault(edge.source, set()).add(self.item_of[edge.target])
            costs.setdefault(edge.source, edge.cost)
        alike: dict[tuple[int, tuple[int, ...]], float] = {}
        for source, taken in targets.items():
            item = self.item_of[source]
            if others := tuple(sorted(taken - {item})):
                alike[item, others] = alike.get((item, others), 0.0) + costs[source]
        for (source, others), cost in alike.items():
            yield Handed(source, others, (cost, 0.0), (cost, 0.0))

    def _arcs(self, forward: Flags) -> Iterator[tuple[int, int]]:
        """Edges of the forward pass; those of the backward pass the other way round where an end is of no forward."""
        backward = {node.id: node.backward for node in self.nodes}
        found = set()
        for edge in self.edges:
            source, target = self.item_of[edge.source], self.item_of[edge.target]
            if source == target:
                continue
            if not backward[edge.source] and not backward[edge.target]:
                found.add((source, target))
            elif backward[edge.source] and backward[edge.target] and not (forward[source] and forward[target]):
                found.add((target, source))
        yield from sorted(found)

    def split(self, placed: Ints) -> dict[str, str]:
        """Node id -> device, as the published evaluator takes it."""
        names = self.problem.devices
        return {str(node.id): names[placed[self.item_of[node.id]]] for node in self.nodes}
