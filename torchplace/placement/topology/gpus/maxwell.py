"""Maxwell, 2015.

- Tesla M40 (GM200): float32 6.84 TFLOP/s, 3,072 CUDA cores x 2 x 1.114 GHz (boost); float64 1/32 of it, 0.214 TFLOP/s,
  for it has 96 cores for that (NVIDIA, "Tesla V100 GPU architecture", WP-08608, table 1, column Tesla M40). float16 has
  no units of its own in this GPU, so there is no figure for it. Memory 288 GB/s, 384 bits at 6 Gbit/s (Microway,
  "NVIDIA Tesla M40 24GB GPU Accelerator Up Close": the 24 GB card matches the 12 GB one in all but capacity).
- Capacities as the driver reports them, for ECC takes its part: 11,448 MiB of the 12 GB card in `nvidia-smi` (ArrayFire
  says 11,449 in the benchmarks of github.com/flashlight/flashlight), 22,939 MiB of the 24 GB card in a public `gpustat`
  record of 2018.
"""

from __future__ import annotations

from dataclasses import replace

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.pcie import PCIE3

M40 = GpuModel("m40", ("M40",), 11_448 * 2**20, {"float32": 6.84e12, "float64": 0.214e12}, 288e9, PCIE3)
M40_24GB = replace(M40, kind="m40-24gb", names=("M40 24GB",), memory=22_939 * 2**20)

MODELS = (M40, M40_24GB)
