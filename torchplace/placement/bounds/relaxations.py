"""The lower bound of a captured graph on a topology: the best of all relaxations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torchplace.placement.bounds.bound import Bound, strongest
from torchplace.placement.bounds.latency import least_step
from torchplace.placement.bounds.machine import machines
from torchplace.placement.bounds.throughput import least_period
from torchplace.placement.bounds.wires import Wires
from torchplace.placement.bounds.work import Work
from torchplace.placement.evaluate import Evaluator

_APART = 16
"""So many devices that something is fixed to are looked at by themselves: those to which most is."""
_MACHINES = 24
_PAIRS = 4


def lower_bound(evaluator: Evaluator, objective: str = "latency", pins: Mapping[str, str] | None = None) -> Bound:
    """Seconds that no placement can beat, and the relaxation that says so.

    The largest of several relaxations, each of which leaves out something that a placement has to do, so that what is
    left can be solved. It comes from no placement.

    Args:
        evaluator: the captured graph, topology and costs, and what is known of memory.
        objective: of what, one of `objective.OBJECTIVES`; of all micro-batches, where the evaluator has a pipeline.
        pins: op name -> device, for ops that every placement has to have there.

    Cost: near-linear in the edges, for each number of devices that share threads; a linear program of at most 40,000
    variables where devices differ.
    """
    topology = evaluator.topology
    work = Work.of(
        evaluator.captured,
        topology.device_names[0],
        state=evaluator.fixed,
        optimizer=evaluator.optimizer,
        pins=pins or {},
    )
    apart = [name for name, _ in Counter(work.fixed.values()).most_common(_APART)]
    wires = Wires(topology)
    count = 1 if evaluator.pipelining is None else evaluator.pipelining.microbatches
    found = []
    if (
        objective == "throughput" or count > 1
    ):  # each micro-batch of a step keeps the busiest device as long as one does
        seen = machines(topology, apart, _PAIRS if len(work.parts) > 1 else _MACHINES)
        instruction = topology.host.instruction if all(part.in_segments for part in work.parts) else 0.0
        period = least_period(work, seen, evaluator.cost, wires, instruction)
        found.append(Bound(count * period.seconds, period.source))
    if objective != "throughput":
        found.append(least_step(work, machines(topology, apart, _MACHINES), evaluator.cost, wires, topology.host))
    return strongest(found)
