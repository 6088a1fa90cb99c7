"""DGX-1 with Tesla P100, NVIDIA's server of 2016: eight GPUs on a hybrid cube mesh of NVLink 1.

The chassis is in `dgx1`. Four NVLinks leave every GPU: in each half of the machine all four GPUs are joined, and each
GPU to its counterpart in the other half (NVIDIA, "DGX-1 system architecture", white paper WP-08437, the chapter on
its NVLink network).

The GPU is a Tesla P100 SXM2 with 16 GB (`gpus.pascal`).
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.pascal import P100_SXM2
from torchplace.placement.topology.presets.dgx1 import GPUS, NICS, SLOT, dgx1
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.topology import Topology

# (GPU, GPU, links); four links leave every GPU.
CUBE_MESH = tuple(
    (one, other, 1)
    for one in range(GPUS)
    for other in range(one + 1, GPUS)
    if one // 4 == other // 4 or other == one + 4
)


def dgx1_p100() -> Topology:
    """NVIDIA's DGX-1: eight Tesla P100 SXM2 on a hybrid cube mesh, four PCIe switches, two sockets.

    GPUs that share no NVLink reach each other over PCIe and QPI: GPUs do not forward.
    """
    return dgx1("dgx1-p100", P100_SXM2, CUBE_MESH)


MACHINE = Machine(dgx1_p100, NICS, SLOT, "edr100")
