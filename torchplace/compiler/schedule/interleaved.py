"""interleaved: every stage has several parts of the model."""

from __future__ import annotations

from torchplace.compiler.schedule.action import Table, backward, forward


def interleaved(stages: int, microbatches: int, chunks: int) -> Table:
    """`1f1b` where stage s has the chunks s, s + S, s + 2S... of the model.

    Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM" (SC 2021),
    section 2.2: idle for 1 / chunks as long as `1f1b`, with as many times the transfers. Micro-batches go through a
    chunk in groups of S; the last group may be smaller.
    """
    total, table = microbatches * chunks, []
    for stage in range(stages):
        ahead = min(total, 2 * (stages - 1 - stage) + (chunks - 1) * stages)
        row = [forward(*_slot(i, stages, chunks, microbatches)) for i in range(ahead)]
        for i in range(total):
            row += [forward(*_slot(i + ahead, stages, chunks, microbatches))] if i + ahead < total else []
            k, chunk = _slot(i, stages, chunks, microbatches)
            row += backward(k, chunks - 1 - chunk)
        table.append(row)
    return table


def _slot(i: int, stages: int, chunks: int, microbatches: int) -> tuple[int, int]:
    """Micro-batch and chunk of the i-th forward of a stage."""
    group, within = divmod(i, stages * chunks)
    size = min(stages, microbatches - group * stages)
    chunk, offset = divmod(within, size)
    return group * stages + offset, chunk
