"""Blackwell, 2024. All figures are without sparsity.

- B200 with 180 GB: float32 75, float64 37, float16 and bfloat16 2,250, int8 4,500 TFLOP/s (NVIDIA, "Blackwell" data
  sheet 4204213 of October 2025, one GPU of the HGX B200; the last two are half of what it gives with sparsity. The
  technical brief of 2024 gave 80 and 40). Memory 7.67 TB/s: 7,680 bits at 3,996 MHz, two transfers a clock, as the
  driver reports (pytorch/ao, pull request 4002); the data sheet says 7.7. Capacity 183,359 MiB: what `nvidia-smi`
  reports (github.com/NVIDIA/TensorRT-LLM, issue 10278). Eighteen NVLink 5.
- GeForce RTX 5090: float32 104.8, float16 and bfloat16 with tensor cores (accumulating in float32) 209.5, int8 838
  TFLOP/s; float64 1/64 of float32; memory 1,792 GB/s, PCIe 5 (NVIDIA, "RTX Blackwell GPU architecture", white paper).
  Capacity 32,607 MiB: what `nvidia-smi` reports (github.com/noonghunna/club-3090, issue 1229). No peer-to-peer:
  `nvidia-smi topo -p2p r` says GNS (the same issue).
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.nvlink import NVLINK5
from torchplace.placement.topology.parts.pcie import PCIE5

B200 = GpuModel(
    "b200-sxm-180gb",
    ("B200",),
    183_359 * 2**20,
    {"float32": 75e12, "float64": 37e12, "float16": 2250e12, "bfloat16": 2250e12, "int8": 4500e12},
    7.67e12,
    PCIE5,
    nvlink=NVLINK5,
    nvlinks=18,
)
RTX_5090 = GpuModel(
    "rtx-5090",
    ("RTX 5090",),
    32_607 * 2**20,
    {"float32": 104.8e12, "float64": 1.6375e12, "float16": 209.5e12, "bfloat16": 209.5e12, "int8": 838e12},
    1792e9,
    PCIE5,
    peer_to_peer=False,
)

MODELS = (B200, RTX_5090)
