"""DGX H100, NVIDIA's server of 2022: eight H100 behind NVSwitches.

Eight GPUs with eighteen NVLink 4 each, four NVSwitches, two sockets (Xeon Platinum 8480C, Sapphire Rapids), PCIe 5,
eight ConnectX-7 NICs of 400 Gbit/s for the cluster (NVIDIA, "DGX H100/H200" user guide). How they are joined is in
`hgx`.

The GPU is an H100 SXM5 with 80 GB:

- float32 66.9 (CUDA cores, not TF32), float64 66.9 (tensor cores, which keep full precision), float16 and bfloat16
  989.4, int8 1,978.9 TFLOP/s, without sparsity (NVIDIA, "H100 Tensor Core GPU architecture", white paper, the table
  of SXM5); memory 3.35 TB/s (NVIDIA, "H100 Tensor Core GPU" data sheet).
- Capacity 81,559 MiB: what `nvidia-smi` reports (modal-labs/modal-client, pull request 2797).
- Launch overhead: nominal, 5 us, as in `big_sur`.

Links and sockets are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.presets.hgx import GPUS, NICS, SLOT, hgx
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.topology import Topology


def _gpu(number: int) -> Device:
    return Device(
        name=f"gpu:{number}",
        kind="h100-sxm5-80gb",
        memory=81_559 * 2**20,
        peak_flops={
            "float32": 66.9e12,
            "float64": 66.9e12,
            "float16": 989.4e12,
            "bfloat16": 989.4e12,
            "int8": 1978.9e12,
        },
        memory_bandwidth=3.35e12,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
    )


def dgx_h100() -> Topology:
    """NVIDIA's DGX H100: eight H100 SXM5 80 GB behind NVSwitches, PCIe 5, two sockets."""
    return hgx("dgx-h100", tuple(_gpu(i) for i in range(GPUS)), 4, "sapphire-rapids")


MACHINE = Machine(dgx_h100, NICS, SLOT)
