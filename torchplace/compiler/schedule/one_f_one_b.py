"""1f1b: one forward, one backward, in turn."""

from __future__ import annotations

from torchplace.compiler.schedule.action import Table, backward, forward


def one_f_one_b(stages: int, microbatches: int) -> Table:
    """Each stage runs ahead by as many forwards as there are stages behind it, then alternates.

    Narayanan et al., "PipeDream: Generalized Pipeline Parallelism for DNN Training" (SOSP 2019), section 3.2, with a
    flush at the end of the step: Fan et al., "DAPPLE" (PPoPP 2021), section 4. With equal stages it is idle for as long
    as `gpipe`, and stage s holds the activations of S - s micro-batches at most.
    """
    table: Table = []
    for stage in range(stages):
        ahead = min(microbatches, stages - 1 - stage)
        row = [forward(k) for k in range(ahead)]
        for k in range(microbatches):
            row += [forward(k + ahead)] if k + ahead < microbatches else []
            row += backward(k)
        table.append(row)
    return table
