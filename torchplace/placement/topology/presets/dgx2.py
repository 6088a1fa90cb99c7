"""DGX-2, NVIDIA's server of 2018: sixteen Tesla V100 behind NVSwitches.

- Sixteen GPUs with six NVLinks each, twelve NVSwitches that let all GPUs talk at full rate, two sockets (Xeon Platinum
  8168, Skylake), eight 100 Gbit/s NICs (NVIDIA, "DGX-2" data sheet and user guide).
- PCIe, read off the matrix of `nvidia-smi topo -m` on a DGX-2 (github.com/NVIDIA/nccl-tests, issue 78): a switch for
  each two GPUs and a NIC (PIX), a switch above each two of those (PXB), two such below each socket (NODE).

The GPU is a Tesla V100 SXM3 with 32 GB:

- float32 15.7, float64 7.8, float16 with tensor cores 125 TFLOP/s; memory 900 GB/s: the figures of the SXM2 module
  (NVIDIA, "Tesla V100" data sheet, 1165301-r5); 2 PFLOP/s for the machine is 16 x 125. No units for bfloat16.
- Capacity 32 GB, as the data sheet says; the driver reports a little more.
- Launch overhead: nominal, 5 us, as in `big_sur`.

Links and sockets are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.presets.nvlink import switched
from torchplace.placement.topology.presets.pcie import PCIE3
from torchplace.placement.topology.presets.sockets import joint
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 16


def _gpu(number: int) -> Device:
    return Device(
        name=f"gpu:{number}",
        kind="v100-sxm3-32gb",
        memory=32 * 10**9,
        peak_flops={"float32": 15.7e12, "float64": 7.8e12, "float16": 125e12},
        memory_bandwidth=900e9,
        launch_overhead=5e-6,
        torch_device=f"cuda:{number}",
    )


def dgx2() -> Topology:
    """NVIDIA's DGX-2: sixteen Tesla V100 SXM3 32 GB behind NVSwitches, two levels of PCIe switches, two sockets."""
    switches = (
        Switch("nvswitch", "nvswitch"),
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(2)),
        *(Switch(f"pex:{i}", "pcie-switch") for i in range(4)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(8)),
    )
    links = [*joint("socket:0", "socket:1", "skylake")]
    for i in range(GPUS):
        links += switched(f"gpu:{i}", "nvswitch", 2, 6)
        links += PCIE3.plug(f"gpu:{i}", f"pcie:{i // 2}")
    for i in range(8):
        links += PCIE3.uplink(f"pcie:{i}", f"pex:{i // 2}")
    for i in range(4):
        links += PCIE3.uplink(f"pex:{i}", f"socket:{i // 2}")
    return Topology("dgx2", tuple(_gpu(i) for i in range(GPUS)), switches, tuple(links))


MACHINE = Machine(dgx2, tuple(f"pcie:{i}" for i in range(8)), PCIE3)
