"""DGX-1 with Tesla V100, NVIDIA's server of 2017: eight GPUs on a hybrid cube mesh of NVLink 2.

The machine: dual-socket Xeon, and eight Tesla V100 SXM2 that NVLink joins to a hybrid cube mesh (NVIDIA,
"DGX-1 with Tesla V100 system architecture", white paper WP-08437). The mesh, with its bonded pairs, is read
off the matrix that `nvidia-smi topo -m` prints on a DGX-1 (it is in Microway's HPC tech tips on
`nvidia-smi`); its NIC columns show GPUs 0 and 1, 2 and 3, 4 and 5, 6 and 7 each below one PCIe switch, and
the first four on one socket. NCCL's own topology dump of such a machine agrees (github.com/NVIDIA/nccl, issue
671). NICs are left out: nothing here leaves the box.

The GPU is a Tesla V100 SXM2 with 16 GB, the capacity that the machine was launched with (it was sold with 32
GB later):

- float32 15.7, float64 7.8, float16 with tensor cores 125 TFLOP/s; memory 900 GB/s (NVIDIA, "Tesla V100" data
  sheet, 1165301-r5). Volta has no units for bfloat16, so there is no figure for it.
- Capacity 16,152 MiB: what `nvidia-smi` reports of it (vantage-sh/ec2instances.info, issue 289).
- Launch overhead: nominal, 5 us, as in `big_sur`.

The links, beside those in `pcie3`:

- An NVLink 2 moves 23.95 GB/s each way, two bonded ones 47.9 GB/s: measured between two V100 SXM2 by
  `p2pBandwidthLatencyTest` on two links, 95.8% of the 25 GB/s that each has on paper (Dell EMC, "Ready
  Solutions for AI: Deep Learning with NVIDIA", table 3).
- A transfer over NVLink starts after 3.4 us: NCCL's `src/graph/tuning.cc`, `hwLat`, row NVLINK, ring, Simple
  protocol.
"""

from __future__ import annotations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.link import Link, both_ways
from torchplace.placement.topology.presets.pcie3 import plug, qpi, uplink
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 8
NVLINK_BANDWIDTH = 23.95e9
NVLINK_LATENCY = 3.4e-6

# (GPU, GPU, bonded links); six links leave every GPU.
CUBE_MESH = (
    (0, 1, 1), (0, 2, 1), (0, 3, 2), (1, 2, 2), (1, 3, 1), (2, 3, 2),
    (4, 5, 1), (4, 6, 1), (4, 7, 2), (5, 6, 2), (5, 7, 1), (6, 7, 2),
    (0, 4, 2), (1, 5, 2), (2, 6, 1), (3, 7, 1),
)  # fmt: skip


def _gpu(number: int) -> Device:
    return Device(
        name=f"gpu:{number}",
        kind="v100-sxm2-16gb",
        memory=16_152 * 2**20,
        peak_flops={"float32": 15.7e12, "float64": 7.8e12, "float16": 125e12},
        memory_bandwidth=900e9,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
    )


def _nvlink(one: int, other: int, bonded: int) -> tuple[Link, Link]:
    kind = "nvlink2" if bonded == 1 else f"nvlink2-x{bonded}"
    return both_ways(f"gpu:{one}", f"gpu:{other}", kind, bonded * NVLINK_BANDWIDTH, NVLINK_LATENCY)


def dgx1_v100() -> Topology:
    """NVIDIA's DGX-1: eight Tesla V100 SXM2 16 GB on a hybrid cube mesh, four PCIe switches, two sockets.

    GPUs that share no NVLink reach each other over PCIe, and the other socket's over QPI: GPUs do not
    forward.
    """
    switches = (
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(2)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(4)),
    )
    links = [link for edge in CUBE_MESH for link in _nvlink(*edge)]
    for i in range(GPUS):
        links += plug(f"gpu:{i}", f"pcie:{i // 2}")
    for i in range(4):
        links += uplink(f"pcie:{i}", f"socket:{i // 2}")
    links += qpi("socket:0", "socket:1")
    return Topology("dgx1-v100", tuple(_gpu(i) for i in range(GPUS)), switches, tuple(links))
