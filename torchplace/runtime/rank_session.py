"""A session of a job of several ranks: all capture, rank 0 plans, and all run that plan."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

from torchplace.compiler.capture import Captured
from torchplace.compiler.program import Program
from torchplace.errors import OptionError, PlanError, TorchplaceError
from torchplace.placement.pipelining import Pipelining
from torchplace.placement.plan import Plan
from torchplace.placement.plan_file import plan_data, plan_of
from torchplace.placement.planning import Request
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.local import pair_threads
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.distributed import FAULT_TIMEOUT, DistributedRuntime
from torchplace.runtime.profile import cpu_figures
from torchplace.runtime.ranks import leads
from torchplace.runtime.session import Placed, Session
from torchplace.runtime.state import keep_only

_SIZES, _TIMES = (8, 4 * 2**20), 9
"""Bytes that ranks exchange to find how fast that goes, and how often."""


def rank_topology() -> Topology:
    """The topology of a job on one machine: a device for each rank.

    Raises:
        OptionError: the job has several machines, whose links nobody knows yet.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if int(os.environ.get("LOCAL_WORLD_SIZE", size)) != size:
        raise OptionError(
            f"the job has {size} ranks on several machines; pass topology=, such as the file that `torchrun ... -m "
            "torchplace topo --measure --out` writes"
        )
    if leads():
        cpu_figures(pair_threads())
    return Topology.local(size, threads=torch.get_num_threads())


class RankSession(Session):
    """Handles the graphs that Dynamo finds on this rank, in agreement with all others.

    Each capture is one agreement. Rank 0 makes the plan and its programs and leaves them in the job's store; the others
    take them if they have captured the same graph.
    """

    alone = False

    def __init__(self, request: Request, plan: Plan | None, timeout: float = FAULT_TIMEOUT) -> None:
        """Meet the other ranks.

        Args:
            request: what is asked of the planner; its topology has a device for each rank.
            plan: a plan to run, instead of searching one.
            timeout: seconds after which a rank that does not go on counts as hanging.
        """
        self.timeout = timeout
        self._agreements = 0
        super().__init__(request, plan)
        if all(link.kind == "memory" for link in request.topology.links):  # which ranks do not share
            links = self._measured_links()
            self.request = replace(request, topology=replace(request.topology, links=links))

    def _make_runtime(self) -> DistributedRuntime:
        return DistributedRuntime(self.request.topology, self.timeout)

    def _measured_links(self) -> tuple[Link, ...]:
        """The links of a job on one machine: its ranks hand values over through the host's network, not its memory.

        All ranks take part, and at the same time, as in a step. A transfer crosses two links, each with half the time.
        """
        size, seconds = len(self.ranks.names), []
        for nbytes in _SIZES:
            rows = torch.zeros(nbytes, dtype=torch.uint8)
            taken = []
            for _ in range(_TIMES):
                begun = perf_counter()
                self.ranks.exchange(rows, "measuring")
                taken.append(perf_counter() - begun)
            seconds.append(statistics.median(taken) / max(1, size - 1))
        small, large = seconds
        bandwidth = (_SIZES[1] - _SIZES[0]) / max(large - small, 1e-6)
        return tuple(replace(k, bandwidth=bandwidth, latency=small / 2) for k in self.request.topology.links)

    @property
    def ranks(self) -> DistributedRuntime:
        """The runtime."""
        assert isinstance(self.runtime, DistributedRuntime)
        return self.runtime

    def _plan_for(self, captured: Captured, fixed: dict[str, str], request: Request) -> Plan:
        return self._agreed(captured, lambda: super(RankSession, self)._plan_for(captured, fixed, request))

    def place(self, captured: Captured, pipelining: Pipelining | None = None) -> Placed:
        """As in one process; what goes wrong on one rank goes wrong on all."""
        with self.ranks.all_fail("planning"):
            return super().place(captured, pipelining)

    def _priced(self, request: Request, captured: Captured) -> Request:
        """What rank 0 knows of costs: the others plan nothing."""
        return super()._priced(request, captured) if self.ranks.rank == 0 else request

    def place_again(self, captured: Captured, known: Placed, pipelining: Pipelining) -> Placed:
        """As in one process; the programs are rank 0's."""

        def again() -> Plan:
            return super(RankSession, self)._plan_again(captured, known, pipelining)

        return self._prepared(captured, self._agreed(captured, again), known.cost)

    def _agreed(self, captured: Captured, make: Any) -> Plan:
        """The plan that rank 0 makes, once all have captured the same graph.

        Raises:
            PlanError: the ranks have captured different graphs.
            RankError: a rank has failed, or captures nothing.
        """
        self._agreements += 1
        key, mine = f"graph/{self._agreements}", _digest(captured)
        ranks = self.ranks
        ranks.store.set(f"{key}/{ranks.rank}", mine)
        for rank, name in enumerate(ranks.names):
            theirs = self._hear(f"{key}/{rank}", rank)
            if theirs != mine:
                text = (
                    f"rank {ranks.rank} has captured another graph than rank {rank} ({name}); expected the same model, "
                    "the same code and inputs of the same shapes on every rank"
                )
                ranks.watch.fail(text)
                raise PlanError(text)
        return self._told(key, make) if ranks.rank == 0 else _read(json.loads(self._hear(f"{key}/plan", 0)))

    def _told(self, key: str, make: Any) -> Plan:
        """Make the plan, and leave it for the others; that it cannot be made, too."""
        ranks = self.ranks
        ranks.watch.at("planning", patient=True)
        try:
            plan: Plan = make()
        except TorchplaceError as error:
            ranks.store.set(f"{key}/plan", json.dumps({"error": f"{type(error).__name__}: {error}"}))
            raise
        finally:
            ranks.watch.at("")
        note = {"plan": plan_data(plan), "programs": [str(program) for program in plan.programs]}
        ranks.store.set(f"{key}/plan", json.dumps(note))
        return plan

    def _hear(self, key: str, rank: int) -> str:
        doing = f"capturing graph {self._agreements} (are its inputs of other shapes here?)"
        return self.ranks.hear(key, rank, doing)

    def _settle(self, captured: Captured, plan: Plan) -> None:
        """Let this rank have its own parameters, and those of others stand on the meta device."""
        path = {v.name: v.path for v in captured.graph.inputs}
        devices = {name: plan.parameters[path[name]] for name in captured.state if path[name] in plan.parameters}
        self.owners.settle(captured.state, devices)
        mine = {n: t for n, t in captured.state.items() if devices.get(n) == self.ranks.device}
        here = self.ranks.torch_devices[self.ranks.device]
        if not self._agreements - 1:  # what stands on the meta device later is another rank's
            self._materialise(mine, path, dict.fromkeys(mine, here))
        keep_only(captured.state, mine, here, torch.device(captured.graph.home))


def _digest(captured: Captured) -> str:
    """Of all by which plans and programs name things."""
    keys = captured.graph.keys()
    named: list[Any] = [[op.name, keys[op.name], [v.name for v in op.outputs]] for op in captured.graph.ops]
    named.append(["inputs", [[v.name, v.path, str(v.type)] for v in captured.graph.inputs]])
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _read(note: dict[str, Any]) -> Plan:
    if "error" in note:
        raise PlanError(f"rank 0 could not plan: {note['error']}")
    plan = plan_of(note["plan"])
    return replace(plan, programs=tuple(Program.parse(text) for text in note["programs"]))
