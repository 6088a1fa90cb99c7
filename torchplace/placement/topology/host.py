"""The host: what the process that drives the devices adds to the time of a program."""

from __future__ import annotations

from dataclasses import dataclass

from torchplace.placement.topology.checks import require_number


@dataclass(frozen=True)
class Host:
    """What calls and instructions cost beside the ops; zeros where a host runs ahead of its devices.

    Attributes:
        call: seconds of one call of a compiled model before and after its program: guards, autograd, hand-over.
        argument: seconds for each input and output of a program.
        instruction: seconds for which an instruction keeps its device beyond its ops; frees and receives do not.
        start: seconds until the workers of a program begin, where more than one device has something to do.

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    call: float = 0.0
    argument: float = 0.0
    instruction: float = 0.0
    start: float = 0.0

    def __post_init__(self) -> None:
        for field in ("call", "argument", "instruction", "start"):
            require_number("host", field, getattr(self, field), "seconds", zero=True)
