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
    RankError,
    TopologyError,
    TorchplaceError,
)
from torchplace.placement.plan import Plan
from torchplace.placement.report.trace import save_trace
from torchplace.placement.timeline import Timeline
from torchplace.placement.topology.topology import Topology
from torchplace.runtime.checkpoint import Checkpointer
from torchplace.runtime.clipping import GradScaler, clip_grad_norm_
from torchplace.runtime.pipelined import Step

__version__ = "0.1.0"

__all__ = [
    "CaptureError",
    "Checkpointer",
    "ExecutionError",
    "GradScaler",
    "GraphError",
    "InfeasibleError",
    "OptionError",
    "Plan",
    "PlanError",
    "ProgramError",
    "RankError",
    "Step",
    "Timeline",
    "Topology",
    "TopologyError",
    "TorchplaceError",
    "clip_grad_norm_",
    "compare",
    "compile",
    "place",
    "plan",
    "plans",
    "save_trace",
]
