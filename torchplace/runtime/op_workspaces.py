"""Measures what each op of a graph takes for itself while it runs, by the allocator, and keeps it in the store.

The whole graph runs once on a CPU device, as when its ops are timed (`op_times`). An op's workspace is the most that
was given out while it ran, less what its results take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.profiler import record_function

from torchplace.compiler.capture import Captured
from torchplace.compiler.graph import Op
from torchplace.placement.cost.signature import signature_key
from torchplace.placement.cost.store import CostStore, DeviceKey
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.allocations import Allocation, watch
from torchplace.runtime.kernels import make_stamped
from torchplace.runtime.op_times import Inputs, sorts, threads_set, timing

_OP = "torchplace op "


def measure_workspaces(captured: Captured, topology: Topology, store: CostStore) -> int:
    """Measure the workspaces of a graph's ops where the store lacks one, on each sort of CPU device of a topology.

    Returns:
        How many signatures were written.

    Needs the memory that one device would need to run the graph alone, and to keep all saved values meanwhile.
    """
    written = 0
    keys = {signature_key(op) for part in captured.parts for op in part.ops}
    for device in sorts(topology):
        key = DeviceKey.of(device)
        if device.kind != "cpu" or keys <= store.workspaces(key).keys():
            continue
        with threads_set(key.threads):
            found = _measure(captured)
        store.write_workspaces(key, found)
        written += len(found)
    return written


def _measure(captured: Captured) -> dict[str, int]:
    """Signature key -> bytes; of several ops of a signature, the most that one took."""
    keys = captured.graph.keys()
    written = {name for part in captured.parts for op in part.ops for name in op.mutates}
    given = Inputs(captured.examples, torch.device("cpu"), written)
    env: dict[str, Any] = {}
    found: dict[str, int] = {}
    with timing():
        for part in captured.parts:
            function = make_stamped(part, torch.device("cpu"), keys)
            for last in (False, True):  # kernels keep what they make at first
                args = [given.take(part, v, env if last else dict(env)) for v in part.inputs]
                results, taken = _run(function, args, part.ops)
            env.update(zip((v.name for v in part.output_values), results, strict=True))
            del results
            for op, nbytes in zip(part.ops, taken, strict=True):
                found[signature_key(op)] = max(found.get(signature_key(op), 0), nbytes)
    return found


def _run(
    function: Callable[[list[Any], Callable[[], None]], Sequence[Any]], args: list[Any], ops: Sequence[Op]
) -> tuple[Sequence[Any], list[int]]:
    """The results of a stamped graph, and the workspace of each op."""
    stamps = _Ranges()
    results: list[Any] = []
    held = list(args)  # the allocator complains of what comes back to it and was given out before it was watched

    def action() -> None:
        results.extend(function(args, stamps.stamp))
        stamps.close()

    by_op: dict[str, list[Allocation]] = {}
    for a in watch(action):
        name = next((r for r in a.ranges if r.startswith(_OP)), "")
        by_op.setdefault(name, []).append(a)
    del held
    return results, [workspace(op, by_op.get(f"{_OP}{i}", ())) for i, op in enumerate(ops)]


def workspace(op: Op, allocations: Sequence[Allocation]) -> int:
    """Bytes that an op took beyond its results, by what was allocated while it ran, in order."""
    live = most = 0
    own: dict[int, int] = {}
    for a in allocations:
        live += a.nbytes if a.nbytes > 0 else -own.pop(a.address, 0)
        if a.nbytes > 0:
            own[a.address] = a.nbytes
        most = max(most, live)
    return max(0, most - sum(v.storage_bytes for v in op.outputs if v.base is None))


class _Ranges:
    """Opens a profiler's range for each op, and closes that of the one before."""

    def __init__(self) -> None:
        self.count = 0
        self.open: Any = None

    def stamp(self) -> None:
        self.close()
        self.open = record_function(f"{_OP}{self.count}")
        self.open.__enter__()
        self.count += 1

    def close(self) -> None:
        if self.open is not None:
            self.open.__exit__(None, None, None)
        self.open = None
