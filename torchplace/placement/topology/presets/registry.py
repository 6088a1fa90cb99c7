"""The documented machines by name."""

from __future__ import annotations

from torchplace.placement.topology.presets.big_sur import MACHINES as BIG_SUR
from torchplace.placement.topology.presets.dgx1_p100 import MACHINE as DGX1_P100
from torchplace.placement.topology.presets.dgx1_v100 import MACHINE as DGX1_V100
from torchplace.placement.topology.presets.dgx2 import MACHINE as DGX2
from torchplace.placement.topology.presets.dgx_a100 import MACHINE as DGX_A100
from torchplace.placement.topology.presets.dgx_b200 import MACHINE as DGX_B200
from torchplace.placement.topology.presets.dgx_h100 import MACHINE as DGX_H100
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.presets.rtx3090_3060 import MACHINE as RTX3090_3060
from torchplace.placement.topology.presets.rtx4090x4 import MACHINE as RTX4090X4

PRESETS: dict[str, Machine] = {
    "big-sur": BIG_SUR["single-root"],
    **{f"big-sur-{layout}": machine for layout, machine in BIG_SUR.items()},
    "dgx1-p100": DGX1_P100,
    "dgx1-v100": DGX1_V100,
    "dgx2": DGX2,
    "dgx-a100": DGX_A100,
    "dgx-h100": DGX_H100,
    "dgx-b200": DGX_B200,
    "rtx4090x4": RTX4090X4,
    "rtx3090-3060": RTX3090_3060,
}
"""What is known of each preset, by its name; "big-sur" and "big-sur-single-root" are the same machine."""


def preset_names() -> tuple[str, ...]:
    """Names of the presets, machines of one box."""
    return tuple(PRESETS)
