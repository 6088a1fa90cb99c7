"""DGX A100, NVIDIA's server of 2020: eight A100 behind NVSwitches.

- Eight GPUs with twelve NVLink 3 each, six NVSwitches, two sockets (AMD EPYC 7742), PCIe 4, eight ConnectX-6 NICs of
  200 Gbit/s for the cluster (NVIDIA, "DGX A100 System" user guide).
- PCIe: below each of four switches are two GPUs and two NICs, each behind a bridge of its own (PXB), two of the
  switches below each socket: the matrix of `nvidia-smi topo -m` and NCCL's dump in github.com/NVIDIA/nccl, issue 1505.
  Here a GPU and a NIC share the lower bridge, so that each GPU has a NIC that is nearest, as NCCL pairs them; the
  chip is non-blocking, so bandwidths are what they were.

The GPU is an A100 SXM4 with 80 GB:

- float32 19.5 (CUDA cores, not TF32), float64 19.5 (tensor cores, which keep full precision), float16 and bfloat16
  312, int8 624 TFLOP/s, without sparsity; memory 2,039 GB/s (NVIDIA, "A100 Tensor Core GPU" data sheet, 1758950-r4).
- Capacity 81,920 MiB: what `nvidia-smi` reports (modal-labs/modal-client, pull request 2797).
- Launch overhead: nominal, 5 us, as in `big_sur`.

Links and sockets are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.presets.nvlink import switched
from torchplace.placement.topology.presets.pcie import PCIE4
from torchplace.placement.topology.presets.sockets import joint
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 8


def _gpu(number: int) -> Device:
    return Device(
        name=f"gpu:{number}",
        kind="a100-sxm4-80gb",
        memory=81_920 * 2**20,
        peak_flops={
            "float32": 19.5e12,
            "float64": 19.5e12,
            "float16": 312e12,
            "bfloat16": 312e12,
            "int8": 624e12,
        },
        memory_bandwidth=2039e9,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
    )


def dgx_a100() -> Topology:
    """NVIDIA's DGX A100: eight A100 SXM4 80 GB behind NVSwitches, PCIe 4, two sockets."""
    switches = (
        Switch("nvswitch", "nvswitch"),
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(2)),
        *(Switch(f"pex:{i}", "pcie-switch") for i in range(4)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(GPUS)),
    )
    links = [*joint("socket:0", "socket:1", "epyc")]
    for i in range(GPUS):
        links += switched(f"gpu:{i}", "nvswitch", 3, 12)
        links += PCIE4.plug(f"gpu:{i}", f"pcie:{i}")
        links += PCIE4.uplink(f"pcie:{i}", f"pex:{i // 2}")
    for i in range(4):
        links += PCIE4.uplink(f"pex:{i}", f"socket:{i // 2}")
    return Topology("dgx-a100", tuple(_gpu(i) for i in range(GPUS)), switches, tuple(links))


MACHINE = Machine(dgx_a100, tuple(f"pcie:{i}" for i in range(GPUS)), PCIE4)
