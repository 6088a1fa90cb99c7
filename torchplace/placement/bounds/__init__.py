"""Lower bounds: what no plan can beat on a cost model, by relaxations that are solved. One relaxation a file."""

from __future__ import annotations

from torchplace.placement.bounds.bound import Bound
from torchplace.placement.bounds.relaxations import lower_bound

__all__ = ["Bound", "lower_bound"]
