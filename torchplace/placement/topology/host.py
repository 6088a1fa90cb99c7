"""The host: what the process that drives the devices adds to the time of a program."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torchplace.placement.topology.checks import require_number


@dataclass(frozen=True)
class Host:
    """What calls and instructions cost beside the ops; zeros where a host runs ahead of its devices.

    Attributes:
        call: seconds of one call of a compiled model before and after its program: guards, autograd, hand-over.
        argument: seconds for each input and output of a program.
        instruction: seconds for which running a segment keeps its device beyond its ops.
        send: seconds for which a send keeps its device.
        receive: seconds that a value which has come costs the device that takes it up.
        wake: seconds that a send keeps its device longer, where its receiver waits.
        start: seconds until the workers of a program begin, where more than one device has something to do.

    Raises:
        TopologyError: a field has a value that it cannot have.
    """

    call: float = 0.0
    argument: float = 0.0
    instruction: float = 0.0
    send: float = 0.0
    receive: float = 0.0
    wake: float = 0.0
    start: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            require_number("host", field.name, getattr(self, field.name), "seconds", zero=True)
