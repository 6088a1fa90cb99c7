"""DGX B200, NVIDIA's server of 2024: eight B200 behind NVSwitches.

Eight GPUs with eighteen NVLink 5 each, two NVSwitches with 14.4 TB/s in all, two sockets (Xeon Platinum 8570, Emerald
Rapids), PCIe 5, eight ConnectX-7 NICs of 400 Gbit/s for the cluster (NVIDIA, "DGX B200" user guide, "Introduction to
NVIDIA DGX B200 Systems"). How they are joined is in `hgx`.

The GPU is a B200 with 180 GB:

- float32 80, float64 40, float16 and bfloat16 2,250, int8 4,500 TFLOP/s, without sparsity, at 1,000 W (NVIDIA,
  "Blackwell architecture" technical brief, HGX B200, as tabled in glennklockwood.com/garden/processors/B200).
- Memory 7.67 TB/s: 7,680 bits at 3,996 MHz, two transfers a clock, as the driver reports (pytorch/ao, pull request
  4002); NVIDIA says 8 TB/s.
- Capacity 183,359 MiB: what `nvidia-smi` reports (github.com/NVIDIA/TensorRT-LLM, issue 10278).
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
        kind="b200-sxm-180gb",
        memory=183_359 * 2**20,
        peak_flops={
            "float32": 80e12,
            "float64": 40e12,
            "float16": 2250e12,
            "bfloat16": 2250e12,
            "int8": 4500e12,
        },
        memory_bandwidth=7.67e12,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
    )


def dgx_b200() -> Topology:
    """NVIDIA's DGX B200: eight B200 180 GB behind NVSwitches, PCIe 5, two sockets."""
    return hgx("dgx-b200", tuple(_gpu(i) for i in range(GPUS)), 5, "emerald-rapids")


MACHINE = Machine(dgx_b200, NICS, SLOT)
