"""DGX-1 with Tesla V100, NVIDIA's server of 2017: eight GPUs on a hybrid cube mesh of NVLink 2.

The chassis is in `dgx1`. The mesh, with its bonded pairs, is read off the matrix that `nvidia-smi topo -m` prints on
a DGX-1 (it is in Microway's HPC tech tips on `nvidia-smi`).

The GPU is a Tesla V100 SXM2 with 16 GB (`gpus.volta`), the capacity that the machine was launched with (it was sold
with 32 GB later).
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.volta import V100_SXM2_16GB
from torchplace.placement.topology.presets.dgx1 import NICS, SLOT, dgx1
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.topology import Topology

# (GPU, GPU, bonded links); six links leave every GPU.
CUBE_MESH = (
    (0, 1, 1), (0, 2, 1), (0, 3, 2), (1, 2, 2), (1, 3, 1), (2, 3, 2),
    (4, 5, 1), (4, 6, 1), (4, 7, 2), (5, 6, 2), (5, 7, 1), (6, 7, 2),
    (0, 4, 2), (1, 5, 2), (2, 6, 1), (3, 7, 1),
)  # fmt: skip


def dgx1_v100() -> Topology:
    """NVIDIA's DGX-1: eight Tesla V100 SXM2 16 GB on a hybrid cube mesh, four PCIe switches, two sockets.

    GPUs that share no NVLink reach each other over PCIe, and the other socket's over QPI: GPUs do not
    forward.
    """
    return dgx1("dgx1-v100", V100_SXM2_16GB, CUBE_MESH)


MACHINE = Machine(dgx1_v100, NICS, SLOT, "edr100")
