"""Pascal, 2016. No units for bfloat16; float16 is fast in the P100 alone.

- Tesla P100 SXM2: float32 10.6, float64 5.3, float16 21.2 TFLOP/s (NVIDIA, "NVIDIA Ampere architecture in depth", its
  table of P100, V100 and A100); memory 732 GB/s, 4,096 bits at 715 MHz, two transfers a clock; four NVLink 1 (NVIDIA,
  "Tesla P100" data sheet; the table in Dell, "Ready Solutions for AI: Deep Learning with NVIDIA" has the same 732).
- Tesla P100 PCIe: float32 9.3, float64 4.7, float16 18.7 TFLOP/s; 732 GB/s with 16 GB (NVIDIA, "Tesla P100 PCIe" data
  sheet).
- Capacity of both 16,280 MiB: what `nvidia-smi` prints with older drivers; 16,384 with driver 515 (wookayin/gpustat,
  issue 130).
- Tesla P40: float32 12, int8 47 TFLOP/s; memory 346 GB/s (NVIDIA, "Tesla P40" data sheet). float64 is 1/32 of float32
  in GP102. Capacity 22,919 MiB: what `nvidia-smi` prints with older drivers, with ECC; 23,040 with driver 580, and
  24,576 without ECC (dphnAI/sonar, issue 522).
- GeForce GTX 1080 Ti, also GP102: float32 11.3 TFLOP/s, 3,584 cores x 2 x 1.582 GHz; memory 484 GB/s (NVIDIA, "Turing
  GPU architecture", white paper WP-09183, table of the TU102). Capacity 11,178 MiB: what `nvidia-smi` prints with
  driver 460. Its driver offers peer-to-peer over PCIe (github.com/pytorch/pytorch, issue 1637).
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.nvlink import NVLINK1
from torchplace.placement.topology.parts.pcie import PCIE3

P100_SXM2 = GpuModel(
    "p100-sxm2-16gb",
    ("P100-SXM2-16GB",),
    16_280 * 2**20,
    {"float32": 10.6e12, "float64": 5.3e12, "float16": 21.2e12},
    732e9,
    PCIE3,
    nvlink=NVLINK1,
    nvlinks=4,
)
P100_PCIE = GpuModel(
    "p100-pcie-16gb",
    ("P100-PCIE-16GB",),
    16_280 * 2**20,
    {"float32": 9.3e12, "float64": 4.7e12, "float16": 18.7e12},
    732e9,
    PCIE3,
)
P40 = GpuModel(
    "p40", ("P40",), 22_919 * 2**20, {"float32": 12e12, "float64": 0.375e12, "int8": 47e12}, 346e9, PCIE3
)  # fmt: skip
GTX_1080_TI = GpuModel(
    "gtx-1080-ti", ("GTX 1080 Ti",), 11_178 * 2**20, {"float32": 11.3e12, "float64": 0.354e12}, 484e9, PCIE3
)

MODELS = (P100_SXM2, P100_PCIE, P40, GTX_1080_TI)
