"""DGX-2, NVIDIA's server of 2018: sixteen Tesla V100 behind NVSwitches.

- Sixteen GPUs with six NVLinks each, twelve NVSwitches that let all GPUs talk at full rate, two sockets (Xeon Platinum
  8168, Skylake), eight 100 Gbit/s NICs (NVIDIA, "DGX-2" data sheet and user guide).
- PCIe, read off the matrix of `nvidia-smi topo -m` on a DGX-2 (github.com/NVIDIA/nccl-tests, issue 78): a switch for
  each two GPUs and a NIC (PIX), a switch above each two of those (PXB), two such below each socket, each at a host
  bridge of its own (NODE).

The GPU is a Tesla V100 SXM3 with 32 GB (`gpus.volta`).

Links and sockets are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.volta import V100_SXM3_32GB
from torchplace.placement.topology.parts.pcie import PCIE3
from torchplace.placement.topology.parts.sockets import host_bridge, joint
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 16


def dgx2() -> Topology:
    """NVIDIA's DGX-2: sixteen Tesla V100 SXM3 32 GB behind NVSwitches, two levels of PCIe switches, two sockets."""
    switches = (
        Switch("nvswitch", "nvswitch"),
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(2)),
        *(Switch(f"bridge:{i}", "host-bridge") for i in range(4)),
        *(Switch(f"pex:{i}", "pcie-switch") for i in range(4)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(8)),
    )
    links = [*joint("socket:0", "socket:1", "skylake")]
    for i in range(GPUS):
        links += V100_SXM3_32GB.switched(f"gpu:{i}", "nvswitch")
        links += PCIE3.plug(f"gpu:{i}", f"pcie:{i // 2}")
    for i in range(8):
        links += PCIE3.uplink(f"pcie:{i}", f"pex:{i // 2}")
    for i in range(4):
        links += PCIE3.uplink(f"pex:{i}", f"bridge:{i}")
        links += host_bridge(f"bridge:{i}", f"socket:{i // 2}")
    return Topology("dgx2", V100_SXM3_32GB.devices(GPUS), switches, tuple(links))


MACHINE = Machine(dgx2, tuple(f"pcie:{i}" for i in range(8)), PCIE3, "edr100")
