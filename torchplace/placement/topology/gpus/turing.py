"""Turing, 2018. Tensor cores for float16 and int8; no units for bfloat16.

- Tesla T4: float32 8.1, float16 65, int8 130 TFLOP/s; memory 320 GB/s (NVIDIA, "T4 Tensor Core GPU" data sheet,
  951643). float64 is 1/32 of float32. Capacity 15,360 MiB: what `nvidia-smi` reports (modal-labs/modal-client, pull
  request 2797).
- GeForce RTX 2080 Ti: float32 13.4, float16 (accumulating in float32) 53.8, int8 215.2 TFLOP/s, memory 616 GB/s, the
  reference card, not the founders' edition (NVIDIA, "Turing GPU architecture", white paper WP-09183, table of the
  TU102). float64 is 1/32 of float32. Capacity 11,019 MiB: what `nvidia-smi` prints with driver 455. Two NVLink 2 for a
  bridge; no peer-to-peer without it.
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.nvlink import NVLINK2
from torchplace.placement.topology.parts.pcie import PCIE3

T4 = GpuModel(
    "t4",
    ("T4",),
    15_360 * 2**20,
    {"float32": 8.1e12, "float64": 0.253e12, "float16": 65e12, "int8": 130e12},
    320e9,
    PCIE3,
)
RTX_2080_TI = GpuModel(
    "rtx-2080-ti",
    ("RTX 2080 Ti",),
    11_019 * 2**20,
    {"float32": 13.4e12, "float64": 0.42e12, "float16": 53.8e12, "int8": 215.2e12},
    616e9,
    PCIE3,
    nvlink=NVLINK2,
    nvlinks=2,
    peer_to_peer=False,
)

MODELS = (T4, RTX_2080_TI)
