"""Volta, 2017. Tensor cores for float16; no units for bfloat16, so there is no figure for it.

- Tesla V100 SXM2: float32 15.7, float64 7.8, float16 125 TFLOP/s; memory 900 GB/s; six NVLink 2 (NVIDIA, "Tesla V100"
  data sheet, 1165301-r5). Capacity of the 16 GB module 16,152 MiB: what `nvidia-smi` reports
  (vantage-sh/ec2instances.info, issue 289); of the 32 GB module 32,510 MiB: what it prints with older drivers, and
  32,768 with newer ones.
- Tesla V100 SXM3 with 32 GB, the module of the DGX-2: no data sheet of its own was found. The figures of the SXM2
  module are nominal for it: times 16 they make the 2 PFLOP/s that NVIDIA gives for the machine. Driver 580 prints the
  same 32,768 MiB of it.
- Tesla V100 PCIe: float32 14, float64 7, float16 112 TFLOP/s; 900 GB/s (the same data sheet). Capacity 16,160 MiB: what
  `nvidia-smi` prints of the 16 GB card; 32,510 MiB of the 32 GB card with older drivers, 32,768 with newer ones.
"""

from __future__ import annotations

from dataclasses import replace

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.nvlink import NVLINK2
from torchplace.placement.topology.parts.pcie import PCIE3

V100_SXM2_16GB = GpuModel(
    "v100-sxm2-16gb",
    ("V100-SXM2-16GB",),
    16_152 * 2**20,
    {"float32": 15.7e12, "float64": 7.8e12, "float16": 125e12},
    900e9,
    PCIE3,
    nvlink=NVLINK2,
    nvlinks=6,
)
V100_SXM2_32GB = replace(V100_SXM2_16GB, kind="v100-sxm2-32gb", names=("V100-SXM2-32GB",), memory=32_510 * 2**20)
V100_SXM3_32GB = replace(
    V100_SXM2_32GB, kind="v100-sxm3-32gb", names=("V100-SXM3-32GB", "V100-SXM3-32GB-H")
)  # fmt: skip
V100_PCIE_16GB = GpuModel(
    "v100-pcie-16gb",
    ("V100-PCIE-16GB",),
    16_160 * 2**20,
    {"float32": 14e12, "float64": 7e12, "float16": 112e12},
    900e9,
    PCIE3,
)
V100_PCIE_32GB = replace(V100_PCIE_16GB, kind="v100-pcie-32gb", names=("V100-PCIE-32GB",), memory=32_510 * 2**20)

MODELS = (V100_SXM2_16GB, V100_SXM2_32GB, V100_SXM3_32GB, V100_PCIE_16GB, V100_PCIE_32GB)
