"""Ada, 2022. float64 is 1/64 of float32; PCIe 4, no NVLink. All figures are without sparsity.

- GeForce RTX 4090: float32 82.6, float16 and bfloat16 with tensor cores 165.2 (accumulating in float32, as PyTorch
  does), int8 660.6 TFLOP/s; memory 1,008 GB/s (NVIDIA, "Ada GPU architecture", white paper V2.1, appendix A). Capacity
  24,564 MiB: what `nvidia-smi` reports (RLinf/RLinf, issue 255). NVIDIA's driver offers no peer-to-peer
  (github.com/tinygrad/open-gpu-kernel-modules).
- RTX 6000 Ada: float32 91.1 TFLOP/s, 18,176 cores x 2 x 2.505 GHz; memory 960 GB/s (grafikkarten.com, "NVIDIA RTX 6000
  Grafikkarte der Ada-Generation"; the clock at cputronic.com). float16 and bfloat16 364.2 and int8 728.5 TFLOP/s: four
  and eight times float32, the rates of its tensor cores (364.25 also in modula-systems/modula, pull request 1).
  Capacity 49,140 MiB, without ECC: what `nvidia-smi` prints with driver 570.
- L40S: float32 91.6, float16 and bfloat16 362.05, int8 733 TFLOP/s; memory 864 GB/s (NVIDIA, "L40S" data sheet).
  Capacity 46,068 MiB: what `nvidia-smi` reports (modal-labs/modal-client, pull request 2797).
- L40: float32 90.5, float16 and bfloat16 181.05, int8 362 TFLOP/s; memory 864 GB/s (NVIDIA, "L40" data sheet). Capacity
  46,068 MiB: what `nvidia-smi` prints with driver 610.
- L4: float32 30.3, float16 and bfloat16 121, int8 242.5 TFLOP/s, half of what its data sheet gives with sparsity;
  memory 300 GB/s (NVIDIA, "L4" data sheet). Capacity 23,034 MiB: what `nvidia-smi` reports (the same pull request).
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.model import GpuModel
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


RTX_4090 = GpuModel(
    "rtx-4090", ("RTX 4090",), 24_564 * 2**20, _peaks(82.6, 165.2, 660.6), 1008e9, PCIE4, peer_to_peer=False
)
RTX_6000_ADA = GpuModel(
    "rtx-6000-ada", ("RTX 6000 Ada Generation",), 49_140 * 2**20, _peaks(91.1, 364.2, 728.5), 960e9, PCIE4
)
L40S = GpuModel("l40s", ("L40S",), 46_068 * 2**20, _peaks(91.6, 362.05, 733), 864e9, PCIE4)
L40 = GpuModel("l40", ("L40",), 46_068 * 2**20, _peaks(90.5, 181.05, 362), 864e9, PCIE4)
L4 = GpuModel("l4", ("L4",), 23_034 * 2**20, _peaks(30.3, 121, 242.5), 300e9, PCIE4)

MODELS = (RTX_4090, RTX_6000_ADA, L40S, L40, L4)
