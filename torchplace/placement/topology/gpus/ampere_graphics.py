"""Ampere, 2020, with units for graphics: GA102 and GA106. float64 is 1/64 of float32 in all of them.

All figures are without sparsity. The tensor cores of the GeForce cards, and of the A10G, do float16 at half the rate of
the others when they accumulate in float32, as PyTorch does.

- GeForce RTX 3090: float32 35.6, float16 and bfloat16 71, int8 284 TFLOP/s; memory 936 GB/s (NVIDIA, "Ampere GA102 GPU
  architecture", white paper). Capacity 24,576 MiB: what `nvidia-smi` reports (github.com/noonghunna/club-3090, issue
  1129). A bridge of four NVLinks; no peer-to-peer over PCIe (github.com/NVIDIA/nccl, issue 1127).
- GeForce RTX 3080 with 10 GB: float32 29.8, float16 and bfloat16 59.5, int8 238 TFLOP/s; memory 760 GB/s (the same
  white paper). Capacity 10,240 MiB: what `nvidia-smi` prints with driver 591.
- GeForce RTX 3060 with 12 GB: derived from its 28 multiprocessors, 3,584 cores, and 1.777 GHz (the card's page at
  pcpartdb.com; wccftech.com on its launch): float32 12.74, 3,584 x 2 a clock; float16 and bfloat16 25.5 and int8 101.9
  TFLOP/s, 512 and 2,048 a clock and multiprocessor as in the RTX 3090. Memory 360 GB/s: 192 bits at 15 Gbit/s.
  Capacity 12,288 MiB: what `nvidia-smi` reports (geerlingguy/raspberry-pi-pcie-devices, issue 790).
- RTX A6000: float32 38.7, float16 and bfloat16 154.8, int8 309.7 TFLOP/s; memory 768 GB/s; a bridge of four NVLinks
  (the same white paper, appendix C; Microway, "In-Depth Comparison of NVIDIA Ampere GPU Accelerators"). Capacity 49,140
  MiB, without ECC: what `nvidia-smi` prints with driver 560.
- A40: float32 37.4, float16 and bfloat16 149.7, int8 299.3 TFLOP/s; memory 696 GB/s; a bridge of four NVLinks (NVIDIA,
  "A40" data sheet). Capacity 46,068 MiB, with ECC: what `nvidia-smi` prints with driver 550.
- A10: float32 31.2, float16 and bfloat16 125, int8 250 TFLOP/s; memory 600 GB/s (NVIDIA, "A10" data sheet). Capacity
  23,028 MiB: what `nvidia-smi` reports (modal-labs/modal-client, pull request 2797).
- A10G, the A10 of one cloud: float32 35, float16 and bfloat16 70, int8 140 TFLOP/s; memory 600 GB/s (NVIDIA and AWS,
  "A10G" data sheet of 17 February 2022; compared with the A10 in baseten.co, "NVIDIA A10 vs A10G for ML model
  inference"). Capacity 23,028 MiB: what `nvidia-smi` prints with drivers 535 to 595.
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.nvlink import BRIDGE
from torchplace.placement.topology.parts.pcie import PCIE4


def _peaks(single: float, tensor: float, int8: float) -> dict[str, float]:
    """TFLOP/s: float32, float16 and bfloat16, int8."""
    return {
        "float32": single * 1e12,
        "float64": single * 1e12 / 64,
        "float16": tensor * 1e12,
        "bfloat16": tensor * 1e12,
        "int8": int8 * 1e12,
    }


RTX_3090 = GpuModel(
    "rtx-3090",
    ("RTX 3090",),
    24_576 * 2**20,
    _peaks(35.6, 71, 284),
    936e9,
    PCIE4,
    nvlink=BRIDGE,
    nvlinks=4,
    peer_to_peer=False,
)
RTX_3080 = GpuModel(
    "rtx-3080-10gb", ("RTX 3080",), 10_240 * 2**20, _peaks(29.8, 59.5, 238), 760e9, PCIE4, peer_to_peer=False
)
RTX_3060 = GpuModel(
    "rtx-3060-12gb", ("RTX 3060",), 12_288 * 2**20, _peaks(12.74, 25.5, 101.9), 360e9, PCIE4, peer_to_peer=False
)
RTX_A6000 = GpuModel(
    "rtx-a6000", ("RTX A6000",), 49_140 * 2**20, _peaks(38.7, 154.8, 309.7), 768e9, PCIE4, nvlink=BRIDGE, nvlinks=4
)
A40 = GpuModel("a40", ("A40",), 46_068 * 2**20, _peaks(37.4, 149.7, 299.3), 696e9, PCIE4, nvlink=BRIDGE, nvlinks=4)
A10 = GpuModel("a10", ("A10",), 23_028 * 2**20, _peaks(31.2, 125, 250), 600e9, PCIE4)
A10G = GpuModel("a10g", ("A10G",), 23_028 * 2**20, _peaks(35, 70, 140), 600e9, PCIE4)

MODELS = (RTX_3090, RTX_3080, RTX_3060, RTX_A6000, A40, A10, A10G)
