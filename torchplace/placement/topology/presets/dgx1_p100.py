"""DGX-1 with Tesla P100, NVIDIA's server of 2016: eight GPUs on a hybrid cube mesh of NVLink 1.

The chassis is in `dgx1`. Four NVLinks leave every GPU: in each half of the machine all four GPUs are joined, and each
GPU to its counterpart in the other half (NVIDIA, "DGX-1 system architecture", white paper WP-08437, the chapter on
its NVLink network).

The GPU is a Tesla P100 SXM2:

- float32 10.6, float64 5.3, float16 21.2 TFLOP/s; memory 732 GB/s (NVIDIA, "Tesla P100", white paper WP-08019, and
  its data sheet). Pascal has no units for bfloat16.
- Capacity 16 GB, as the data sheet says; the driver reports a little more.
- Launch overhead: nominal, 5 us, as in `big_sur`.
"""

from __future__ import annotations

from torchplace.placement.topology.device import Device
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


def _gpu(number: int) -> Device:
    return Device(
        name=f"gpu:{number}",
        kind="p100-sxm2-16gb",
        memory=16 * 10**9,
        peak_flops={"float32": 10.6e12, "float64": 5.3e12, "float16": 21.2e12},
        memory_bandwidth=732e9,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
    )


def dgx1_p100() -> Topology:
    """NVIDIA's DGX-1: eight Tesla P100 SXM2 on a hybrid cube mesh, four PCIe switches, two sockets.

    GPUs that share no NVLink reach each other over PCIe and QPI: GPUs do not forward.
    """
    return dgx1("dgx1-p100", tuple(_gpu(i) for i in range(GPUS)), 1, CUBE_MESH)


MACHINE = Machine(dgx1_p100, NICS, SLOT)
