"""A mixed box: two GeForce RTX 3090 with an NVLink bridge, and two GeForce RTX 3060.

The box is no product, but one that people build: a workstation with one socket (AMD Ryzen Threadripper 3000, 64 lanes
of PCIe 4 and four channels of DDR4-3200, 102.4 GB/s on paper), the two RTX 3090 (gpu:0, gpu:1) in x16 slots, the two
RTX 3060 (gpu:2, gpu:3) in x8 slots. The driver offers no peer-to-peer over PCIe between such GPUs
(github.com/NVIDIA/nccl, issue 1127, for the RTX 3090), so transfers go through host memory, but for the two that the
bridge joins.

GeForce RTX 3090:

- float32 35.6, float16 and bfloat16 with tensor cores 71 (accumulating in float32, as PyTorch does), int8 284
  TFLOP/s, without sparsity; float64 0.556, 1/64 of float32; memory 936 GB/s (NVIDIA, "Ampere GA102 GPU architecture",
  white paper).
- Capacity 24,576 MiB: what `nvidia-smi` reports (github.com/noonghunna/club-3090, issue 1129).

GeForce RTX 3060 with 12 GB:

- float32 12.7 TFLOP/s: 3,584 cores x 2 x 1.777 GHz (NVIDIA's page of the GeForce RTX 3060). Its 28 multiprocessors
  are those of the RTX 3090, so the other figures stand in the same ratio to it: float16 and bfloat16 25.4, int8 101.6,
  float64 0.199. Memory 360 GB/s: 192 bits at 15 Gbit/s.
- Capacity 12 GB, as NVIDIA says; the driver reports a little more.

Launch overhead: nominal, 5 us, as in `big_sur`. Links and memory are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.presets.nvlink import bridge
from torchplace.placement.topology.presets.pcie import PCIE4, Pcie
from torchplace.placement.topology.presets.sockets import memory
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology


def _rtx3090(number: int) -> Device:
    return Device(
        name=f"gpu:{number}",
        kind="rtx-3090",
        memory=24_576 * 2**20,
        peak_flops={
            "float32": 35.6e12,
            "float64": 0.556e12,
            "float16": 71e12,
            "bfloat16": 71e12,
            "int8": 284e12,
        },
        memory_bandwidth=936e9,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
        peer_to_peer=False,
    )


def _rtx3060(number: int) -> Device:
    return Device(
        name=f"gpu:{number}",
        kind="rtx-3060-12gb",
        memory=12 * 10**9,
        peak_flops={
            "float32": 12.7e12,
            "float64": 0.199e12,
            "float16": 25.4e12,
            "bfloat16": 25.4e12,
            "int8": 101.6e12,
        },
        memory_bandwidth=360e9,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
        peer_to_peer=False,
    )


def rtx3090_3060() -> Topology:
    """Two GeForce RTX 3090 (bridged, PCIe 4 x16) and two RTX 3060 (PCIe 4 x8) on one socket."""
    gpus = (_rtx3090(0), _rtx3090(1), _rtx3060(2), _rtx3060(3))
    switches = (Switch("socket:0", "cpu-socket"), Switch("memory:0", "host-memory"))
    links = [*bridge("gpu:0", "gpu:1"), *memory("socket:0", "memory:0", 102.4e9)]
    for i, slot in enumerate((PCIE4, PCIE4, Pcie(4, 8), Pcie(4, 8))):
        links += slot.plug(f"gpu:{i}", "socket:0")
    return Topology("rtx3090-3060", gpus, switches, tuple(links))


MACHINE = Machine(rtx3090_3060, ("socket:0",), Pcie(4, 8))
