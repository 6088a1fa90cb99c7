"""DGX A100, NVIDIA's server of 2020: eight A100 behind NVSwitches.

- Eight GPUs with twelve NVLink 3 each, six NVSwitches, two sockets (AMD EPYC 7742), PCIe 4, eight ConnectX-6 NICs of
  200 Gbit/s for the cluster (NVIDIA, "DGX A100 System" user guide).
- PCIe: below each of four switches are two GPUs and two NICs, each behind a bridge of its own (PXB), two of the
  switches below each socket: the matrix of `nvidia-smi topo -m` and NCCL's dump in github.com/NVIDIA/nccl, issue 1505.
  The machine there has its CPUs set to four NUMA nodes each, so that all four switches are SYS to each other; here a
  socket is one node with a host bridge for each switch (NODE).
  Here a GPU and a NIC share the lower bridge, so that each GPU has a NIC that is nearest, as NCCL pairs them; the
  chip is non-blocking, so bandwidths are what they were.

The GPU is an A100 SXM4 with 80 GB (`gpus.ampere`).

Links and sockets are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.ampere import A100_SXM4_80GB
from torchplace.placement.topology.parts.pcie import PCIE4
from torchplace.placement.topology.parts.sockets import host_bridge, joint
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 8


def dgx_a100() -> Topology:
    """NVIDIA's DGX A100: eight A100 SXM4 80 GB behind NVSwitches, PCIe 4, two sockets."""
    switches = (
        Switch("nvswitch", "nvswitch"),
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(2)),
        *(Switch(f"bridge:{i}", "host-bridge") for i in range(4)),
        *(Switch(f"pex:{i}", "pcie-switch") for i in range(4)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(GPUS)),
    )
    links = [*joint("socket:0", "socket:1", "epyc")]
    for i in range(GPUS):
        links += A100_SXM4_80GB.switched(f"gpu:{i}", "nvswitch")
        links += PCIE4.plug(f"gpu:{i}", f"pcie:{i}")
        links += PCIE4.uplink(f"pcie:{i}", f"pex:{i // 2}")
    for i in range(4):
        links += PCIE4.uplink(f"pex:{i}", f"bridge:{i}")
        links += host_bridge(f"bridge:{i}", f"socket:{i // 2}")
    return Topology("dgx-a100", A100_SXM4_80GB.devices(GPUS), switches, tuple(links))


MACHINE = Machine(dgx_a100, tuple(f"pcie:{i}" for i in range(GPUS)), PCIE4, "hdr200")
