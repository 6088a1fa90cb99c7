"""torchplace: imperative PyTorch code, captured as a graph, placed on many devices, and run there."""

from torchplace.api import compare, compile, plan, plans
from torchplace.compiler.place import place
from torchplace.errors import (
    CaptureError,
    ExecutionError,
    GraphError,
    InfeasibleError,
    OptionError,
    PlanError,
    ProgramError,
    TopologyError,
    TorchplaceError,
)
from torchplace.placement.plan import Plan
from torchplace.placement.topology.topology import Topology

__version__ = "0.1.0"

__all__ = [
    "CaptureError",
    "ExecutionError",
    "GraphError",
    "InfeasibleError",
    "OptionError",
    "Plan",
    "PlanError",
    "ProgramError",
    "Topology",
    "TopologyError",
    "TorchplaceError",
    "compare",
    "compile",
    "place",
    "plan",
    "plans",
]
