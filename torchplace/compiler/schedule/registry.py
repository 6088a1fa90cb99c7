"""The schedules that have a closed form, by name."""

from __future__ import annotations

from torchplace.compiler.schedule.action import Table
from torchplace.compiler.schedule.gpipe import gpipe
from torchplace.compiler.schedule.interleaved import interleaved
from torchplace.compiler.schedule.one_f_one_b import one_f_one_b
from torchplace.compiler.schedule.zero_bubble import zero_bubble
from torchplace.errors import OptionError

SCHEDULES = ("gpipe", "1f1b", "interleaved", "zero-bubble")
"""Their names."""


def schedule_table(name: str, stages: int, microbatches: int, chunks: int = 1) -> Table:
    """What each stage does, in order.

    Args:
        name: one of `SCHEDULES`.
        stages: devices in a row.
        microbatches: of a step.
        chunks: parts of the model that each stage has; of `interleaved` alone there can be several.

    Raises:
        OptionError: there is no such schedule.
    """
    plain = {"gpipe": gpipe, "1f1b": one_f_one_b, "zero-bubble": zero_bubble}
    if name == "interleaved":
        return interleaved(stages, microbatches, chunks)
    if name not in plain:
        raise OptionError(f"schedule is {name!r}; expected one of {', '.join(map(repr, SCHEDULES))}")
    return plain[name](stages, microbatches)
