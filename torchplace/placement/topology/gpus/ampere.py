"""Ampere, 2020, the GA100: A100 and A30. The GA102 and its like are in `ampere_graphics`.

- A100 SXM4: float32 19.5 (CUDA cores, not TF32), float64 19.5 (tensor cores, which keep full precision), float16 and
  bfloat16 312, int8 624 TFLOP/s, without sparsity (NVIDIA, "NVIDIA Ampere architecture in depth", its table of P100,
  V100 and A100); memory 1,555 GB/s with 40 GB (the same), 2,039 GB/s with 80 GB; twelve NVLink 3 (NVIDIA, "A100 Tensor
  Core GPU" data sheet, 1758950-r4). Capacity 81,920 and 40,960 MiB: what `nvidia-smi` reports (modal-labs/modal-client,
  pull request 2797; bottlerocket-os/bottlerocket-core-kit, pull request 834).
- A100 PCIe: the same units; 1,935 GB/s with 80 GB, 1,555 GB/s with 40 GB; twelve NVLink 3 by bridges between two cards
  (the data sheet; NVIDIA, "A100 40GB PCIe" product brief, PB-10137). `nvidia-smi` prints the same capacities of them.
- A30: float32 10.3, float64 10.3 (tensor cores), float16 and bfloat16 165, int8 330 TFLOP/s; memory 933 GB/s; a bridge
  of four NVLink 3 (NVIDIA, "A30 Tensor Core GPU" data sheet). Its 56 multiprocessors at 1.44 GHz give the same.
  Capacity 24,576 MiB: what `nvidia-smi` prints with driver 550.
"""

from __future__ import annotations

from dataclasses import replace

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.nvlink import NVLINK3
from torchplace.placement.topology.parts.pcie import PCIE4

A100_SXM4_80GB = GpuModel(
    "a100-sxm4-80gb",
    ("A100-SXM4-80GB", "A100-SXM-80GB"),
    81_920 * 2**20,
    {"float32": 19.5e12, "float64": 19.5e12, "float16": 312e12, "bfloat16": 312e12, "int8": 624e12},
    2039e9,
    PCIE4,
    nvlink=NVLINK3,
    nvlinks=12,
)
A100_SXM4_40GB = replace(
    A100_SXM4_80GB,
    kind="a100-sxm4-40gb",
    names=("A100-SXM4-40GB", "A100-SXM-40GB"),
    memory=40_960 * 2**20,
    memory_bandwidth=1555e9,
)
A100_PCIE_80GB = replace(
    A100_SXM4_80GB, kind="a100-pcie-80gb", names=("A100 80GB PCIe", "A100-PCIE-80GB"), memory_bandwidth=1935e9
)
A100_PCIE_40GB = replace(A100_SXM4_40GB, kind="a100-pcie-40gb", names=("A100-PCIE-40GB",))
A30 = GpuModel(
    "a30",
    ("A30",),
    24_576 * 2**20,
    {"float32": 10.3e12, "float64": 10.3e12, "float16": 165e12, "bfloat16": 165e12, "int8": 330e12},
    933e9,
    PCIE4,
    nvlink=NVLINK3,
    nvlinks=4,
)

MODELS = (A100_SXM4_80GB, A100_SXM4_40GB, A100_PCIE_80GB, A100_PCIE_40GB, A30)
