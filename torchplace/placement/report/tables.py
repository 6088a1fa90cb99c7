"""A plan as tables of text."""

from __future__ import annotations

import io
from math import inf
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.table import Table

from torchplace.placement.report.units import bytes_text, duration_text, ratio_text

if TYPE_CHECKING:
    from torchplace.placement.plan import Plan


MEASURE = {"latency": "step time", "throughput": "period", "step": "step time"}
"""Objective -> what its seconds are called."""


def plan_table(plan: Plan) -> Table:
    """A line for each device: its share of the ops, of the time, of the memory and of the traffic."""
    table = Table(title=f"{plan.name} on {plan.topology.name}", title_justify="left")
    table.add_column("device")
    for column in ("ops", "compute", "parameters", "peak memory", "capacity", "bytes in", "bytes out"):
        table.add_column(column, justify="right")
    p, total = plan.predicted, sum(plan.predicted.busy.values())
    idle = {d.name for d in plan.topology.devices if not (plan.ops_on[d.name] or p.peak_memory.get(d.name))}
    for d in plan.topology.devices:
        if d.name in idle:
            continue
        peak = p.peak_memory.get(d.name, 0)
        table.add_row(
            d.name,
            f"{plan.ops_on[d.name]:,}",
            ratio_text(p.busy.get(d.name, 0.0), total),
            bytes_text(plan.parameter_bytes.get(d.name, 0)),
            f"{bytes_text(peak)} ({ratio_text(peak, d.memory)})",
            bytes_text(d.memory),
            bytes_text(p.bytes_in.get(d.name, 0)),
            bytes_text(p.bytes_out.get(d.name, 0)),
        )
    if idle:
        table.add_row(f"{len(idle)} idle", "0", *["-"] * 6)
    return table


_MEMORY = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "saved activations",
    "caller": "inputs, outputs",
    "temporaries": "temporaries",
}
"""What takes memory (`Predicted.memory`) -> heading of its column."""


def memory_table(plan: Plan) -> Table:
    """A line for each device that holds something: what takes its memory when most is taken."""
    memory = {device: parts for device, parts in plan.predicted.memory.items() if parts}
    present = [what for what in _MEMORY if any(what in parts for parts in memory.values())]
    table = Table(title="memory at each device's peak", title_justify="left")
    table.add_column("device")
    for what in present:
        table.add_column(_MEMORY[what], justify="right")
    for device, parts in memory.items():
        table.add_row(device, *(bytes_text(parts.get(what, 0)) for what in present))
    return table


def plan_lines(plan: Plan) -> list[str]:
    """What the table does not say: the predicted time, its bound, and who found it."""
    what = "forward and backward" if plan.training else "forward"
    measure = MEASURE[plan.objective]
    other = "" if plan.objective != "throughput" else f"; step time {duration_text(plan.predicted.step_time)}"
    by = f" ({plan.bound})" if plan.bound else ""
    above = max(0.0, plan.gap)  # a bound is rounded, too
    gap = "; the gap is unknown" if above == inf else f", so the plan is at most {100 * above:.1f}% above it"
    lines = [
        f"predicted {measure} {duration_text(plan.value)} ({what}; costs: {plan.cost}){other}",
        f"lower bound {duration_text(plan.lower_bound)}{by}{gap}",
        f"solver {plan.solver}, objective {plan.objective}, {duration_text(plan.solve_time)}, seed {plan.seed}",
    ]
    if plan.microbatches > 1:
        lines.append(f"{plan.microbatches} micro-batches, schedule {plan.schedule}")
    if plan.optimizer:
        lines.append(f"optimizer {plan.optimizer}: its state is counted")
    if plan.holds:
        lines.append(f"for any sizes with {'; '.join(plan.holds)}")
    if plan.found:
        lines.append(f"for calls in which {'; '.join(plan.found)}")
    if plan.rest:
        ops = ", ".join(str(len(p.placement)) for p in plan.rest)
        lines.append(f"{len(plan.rest)} more graph(s), with {ops} ops")
    breaks = [p.broken for p in (plan, *plan.rest) if p.broken]
    if breaks:
        lines.append(f"{len(breaks)} graph break(s), between which Python runs where its inputs are, at:")
        lines += [f"  {where}" for where in breaks]
    return lines


def render(*parts: RenderableType, width: int = 110) -> str:
    """Rich renderables as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, force_terminal=False)
    for part in parts:
        console.print(part, highlight=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def plan_text(plan: Plan) -> str:
    """What `print(plan)` shows."""
    tables = [plan_table(plan), *([memory_table(plan)] if any(plan.predicted.memory.values()) else [])]
    return render(*tables, *plan_lines(plan))
