"""zero-bubble: weight gradients fill the gaps."""

from __future__ import annotations

from torchplace.compiler.schedule.action import Action, Table, forward


def zero_bubble(stages: int, microbatches: int) -> Table:
    """As `1f1b`, but weight gradients are put off to where a stage would wait.

    Schedule ZB-H1 of Qi et al., "Zero Bubble Pipeline Parallelism" (2023), section 2: as much memory as `1f1b`, a third
    of its idle time where forward, backward and weight gradients take equally long. Stage s is s weight gradients
    behind in the steady phase; what is left of them comes at the end.
    """
    table: Table = []
    for stage in range(stages):
        ahead, behind = min(microbatches, stages - 1 - stage), stage
        row, done = [forward(k) for k in range(ahead)], 0
        for k in range(microbatches):
            row += [forward(k + ahead)] if k + ahead < microbatches else []
            row.append(Action("backward", k))
            if k - done >= behind:
                row.append(Action("weight-grad", done))
                done += 1
        row += [Action("weight-grad", k) for k in range(done, microbatches)]
        table.append(row)
    return table
