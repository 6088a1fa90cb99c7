"""DGX-1 with Tesla V100, NVIDIA's server of 2017: eight GPUs on a hybrid cube mesh of NVLink 2.

The chassis is in `dgx1`. The mesh, with its bonded pairs, is read off the matrix that `nvidia-smi topo -m` prints on
a DGX-1 (it is in Microway's HPC tech tips on `nvidia-smi`).

The GPU is a Tesla V100 SXM2 with 16 GB, the capacity that the machine was launched with (it was sold with 32
GB later):

- float32 15.7, float64 7.8, float16 with tensor cores 125 TFLOP/s; memory 900 GB/s (NVIDIA, "Tesla V100" data
  sheet, 1165301-r5). Volta has no units for bfloat16, so there is no figure for it.
- Capacity 16,152 MiB: what `nvidia-smi` reports of it (vantage-sh/ec2instances.info, issue 289).
- Launch overhead: nominal, 5 us, as in `big_sur`.
"""

from __future__ import annotations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.presets.dgx1 import GPUS, NICS, SLOT, dgx1
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.topology import Topology

# (GPU, GPU, bonded links); six links leave every GPU.
CUBE_MESH = (
    (0, 1, 1), (0, 2, 1), (0, 3, 2), (1, 2, 2), (1, 3, 1), (2, 3, 2),
    (4, 5, 1), (4, 6, 1), (4, 7, 2), (5, 6, 2), (5, 7, 1), (6, 7, 2),
    (0, 4, 2), (1, 5, 2), (2, 6, 1), (3, 7, 1),
)  # fmt: skip


def _gpu(number: int) -> Device:
    return Device(
        name=f"gpu:{number}",
        kind="v100-sxm2-16gb",
        memory=16_152 * 2**20,
        peak_flops={"float32": 15.7e12, "float64": 7.8e12, "float16": 125e12},
        memory_bandwidth=900e9,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
    )


def dgx1_v100() -> Topology:
    """NVIDIA's DGX-1: eight Tesla V100 SXM2 16 GB on a hybrid cube mesh, four PCIe switches, two sockets.

    GPUs that share no NVLink reach each other over PCIe, and the other socket's over QPI: GPUs do not
    forward.
    """
    return dgx1("dgx1-v100", tuple(_gpu(i) for i in range(GPUS)), 2, CUBE_MESH)


MACHINE = Machine(dgx1_v100, NICS, SLOT)
