"""Four GeForce RTX 4090 in one box, without peer-to-peer.

The box is no product: one socket (AMD EPYC 7003, with 128 lanes of PCIe 4 and eight channels of DDR4-3200, 204.8 GB/s
on paper), and each GPU in an x16 slot of it. NVIDIA's driver offers no peer-to-peer between them over PCIe, so
transfers go through host memory. A patched driver exists (github.com/tinygrad/open-gpu-kernel-modules); its issue 6
shows the staging measured on three such GPUs: 25.8 GB/s in both directions together. That is about one x16 link's 24
GB/s, where this model allows it in each direction, so two opposite transfers at once may take up to twice what is
predicted.

The GPU is a GeForce RTX 4090 (`gpus.ada`).

Links and memory are as in `pcie` and `sockets`. NCCL's 24 GB/s for x16 of PCIe 4 is near what `nvbandwidth` measured
between host and RTX 4090, 24 to 27 GB/s (github.com/NVIDIA/nvbandwidth, issue 15).
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.ada import RTX_4090
from torchplace.placement.topology.parts.pcie import PCIE4
from torchplace.placement.topology.parts.sockets import memory
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 4


def rtx4090x4() -> Topology:
    """Four GeForce RTX 4090 on one socket, PCIe 4 x16; transfers between them go through host memory."""
    switches = (Switch("socket:0", "cpu-socket"), Switch("memory:0", "host-memory"))
    links = [*memory("socket:0", "memory:0", 204.8e9)]
    for i in range(GPUS):
        links += PCIE4.plug(f"gpu:{i}", "socket:0")
    return Topology("rtx4090x4", RTX_4090.devices(GPUS), switches, tuple(links))


MACHINE = Machine(rtx4090x4, ("socket:0",), PCIE4)
