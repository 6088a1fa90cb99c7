"""The errors that torchplace raises on purpose, one class for each kind of outcome."""

from __future__ import annotations


class TorchplaceError(Exception):
    """Base of every error that torchplace raises on purpose; the CLI prints it without a traceback."""


class OptionError(TorchplaceError, ValueError):
    """An option has a value that it cannot have (an unknown solver, a negative number of devices...)."""


class CaptureError(TorchplaceError):
    """A model could not be captured as a graph."""


class Unexpected(CaptureError):  # noqa: N818  # no fault
    """A call comes to what no graph expects, and none is to be captured for it."""


class GraphError(TorchplaceError):
    """A graph, or its text, breaks a rule of the IR."""


class ProgramError(TorchplaceError):
    """A program, or its text, breaks a rule: a deadlock, a use before definition, a leak..."""


class TopologyError(TorchplaceError):
    """A topology is malformed, unknown, or has no route between two devices."""


class InfeasibleError(TorchplaceError):
    """No placement satisfies the constraints; says which device lacks how many bytes, or which hints clash."""


class InstanceError(TorchplaceError):
    """A file of a published placement problem cannot be read, or does not fit together."""


class SolverError(TorchplaceError):
    """A solver broke its promise: its answer is no valid placement, or it fails the conformance suite."""


class PlanError(TorchplaceError):
    """A plan (or its file) is damaged, or was made for another graph or topology."""


class ExecutionError(TorchplaceError):
    """An op failed on a device while a program ran; chained to the original exception."""


class RankError(ExecutionError):
    """A rank of a job failed, died or hangs: raised on every rank, with the same cause."""


class CostError(TorchplaceError):
    """A cost that was asked for is not known: nothing was measured, or the store of measurements is damaged."""
