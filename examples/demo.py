"""The main job on a real model: capture GPT-2, compare plans for a machine that is not here, run on CPU devices.

make demo
"""

from __future__ import annotations

from rich.console import Console

import torchplace as tp
from examples.gpt2 import build
from torchplace.placement.report.comparison import row_text
from torchplace.runtime.rehearsal import measure

DEVICES = 2
TOPOLOGY = "big-sur"
SECONDS = 3.0
"""That each solver may search: with 10, the default of `tp.plan`, the plan is a little better."""


def main() -> None:
    """Compare, plan, run."""
    console = Console(highlight=False)
    console.rule("1. capture GPT-2 (12 layers, random weights) for training, compare solvers")
    model, args = build()
    with console.status("capturing and solving"):
        rows = tp.compare(
            model, args, topology=TOPOLOGY, training=True, time_limit=SECONDS, on_row=lambda row: print(row_text(row))
        )
    print(rows)

    console.rule(f"2. the chosen plan for {TOPOLOGY}, 8 GPUs that need not be here")
    best = min((row.plan for row in rows if row.plan), key=lambda plan: plan.predicted.step_time)
    print(best)

    console.rule(f"3. run forward and backward on {DEVICES} CPU devices of this machine, beside eager")
    # `balanced` splits the ops over the devices even where one of them alone would be as fast: two CPU devices
    # share this machine's cores.
    topology = f"local:{DEVICES}"
    with console.status("compiling and running"):
        result = measure(
            model, args, {}, lambda m: tp.compile(m, topology=topology, solver="balanced"), training=True, steps=5
        )
    plan = tp.plans(result.compiled)[0]
    print(plan)
    print(result)
    ratio = plan.predicted.step_time / result.placed
    print(f"predicted step time {plan.predicted.step_time * 1e3:.0f} ms, measured {result.placed * 1e3:.0f} ms")
    print(f"predicted / measured: {ratio:.2f} (a roofline from rough figures of this machine, not measured op by op)")


if __name__ == "__main__":
    main()
