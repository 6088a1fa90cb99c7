"""Hopper, 2022. All figures are without sparsity: half of what the data sheets give with it.

- H100 SXM5: float32 66.9 (CUDA cores, not TF32), float64 66.9 (tensor cores, which keep full precision), float16 and
  bfloat16 989.4, int8 1,978.9 TFLOP/s (NVIDIA, "H100 Tensor Core GPU architecture", white paper, the table of SXM5, as
  tabled in glennklockwood.com/garden/processors/h100); memory 3.35 TB/s; eighteen NVLink 4 (NVIDIA, "H100 Tensor Core
  GPU" data sheet). Capacity 81,559 MiB: what `nvidia-smi` reports (modal-labs/modal-client, pull request 2797).
- H200: the same units; memory 4.8 TB/s (NVIDIA, "H200 Tensor Core GPU" data sheet). Capacity 143,771 MiB: what
  `nvidia-smi` reports (github.com/utkuozdemir/nvidia_gpu_exporter, testdata/captures).
- H100 PCIe: float32 51, float64 51 (tensor cores), float16 and bfloat16 756, int8 1,513 TFLOP/s; memory 2 TB/s; twelve
  NVLink 4 by bridges between two cards (NVIDIA, "H100 Tensor Core GPU" data sheet of 2022, and the "H100 PCIe" product
  brief, PB-11133). Capacity 81,559 MiB: what `nvidia-smi` prints with driver 570.
- H100 NVL: float32 60, float64 60 (tensor cores), float16 and bfloat16 835.5, int8 1,670.5 TFLOP/s; memory 3.9 TB/s;
  twelve NVLink 4 by bridges (NVIDIA, "H100 Tensor Core GPU" data sheet, column NVL). Capacity 95,830 MiB: what
  `nvidia-smi` prints with driver 580.
"""

from __future__ import annotations

from dataclasses import replace

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.nvlink import NVLINK4
from torchplace.placement.topology.parts.pcie import PCIE5


def _peaks(single: float, tensor: float, int8: float) -> dict[str, float]:
    """TFLOP/s: float32 and float64, float16 and bfloat16, int8."""
    return {
        "float32": single * 1e12,
        "float64": single * 1e12,
        "float16": tensor * 1e12,
        "bfloat16": tensor * 1e12,
        "int8": int8 * 1e12,
    }


H100_SXM5 = GpuModel(
    "h100-sxm5-80gb",
    ("H100 80GB HBM3", "H100-SXM5-80GB"),
    81_559 * 2**20,
    _peaks(66.9, 989.4, 1978.9),
    3.35e12,
    PCIE5,
    nvlink=NVLINK4,
    nvlinks=18,
)
H200 = replace(
    H100_SXM5, kind="h200-sxm-141gb", names=("H200",), memory=143_771 * 2**20, memory_bandwidth=4.8e12
)  # fmt: skip
H100_PCIE = GpuModel(
    "h100-pcie-80gb", ("H100 PCIe",), 81_559 * 2**20, _peaks(51, 756, 1513), 2e12, PCIE5, nvlink=NVLINK4, nvlinks=12
)
H100_NVL = GpuModel(
    "h100-nvl-94gb", ("H100 NVL",), 95_830 * 2**20, _peaks(60, 835.5, 1670.5), 3.9e12, PCIE5, nvlink=NVLINK4, nvlinks=12
)

MODELS = (H100_SXM5, H200, H100_PCIE, H100_NVL)
