"""gpipe: all forwards, then all backwards."""

from __future__ import annotations

from torchplace.compiler.schedule.action import Table, backward, forward


def gpipe(stages: int, microbatches: int) -> Table:
    """Every stage runs the forward of all micro-batches, then their backward, in the same order.

    Huang et al., "GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism" (NeurIPS 2019),
    section 2.3. With equal stages, (S - 1) / (M + S - 1) of the time is idle. All micro-batches' activations are held.
    Backwards come in the order of the forwards, so that gradients add up as they do in eager.
    """
    row = [forward(k) for k in range(microbatches)]
    row += [action for k in range(microbatches) for action in backward(k)]
    return [list(row) for _ in range(stages)]
