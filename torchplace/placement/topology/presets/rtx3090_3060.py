"""A mixed box: two GeForce RTX 3090 with an NVLink bridge, and two GeForce RTX 3060.

The box is no product, but one that people build: a workstation with one socket (AMD Ryzen Threadripper 3000, 64 lanes
of PCIe 4 and four channels of DDR4-3200, 102.4 GB/s on paper), the two RTX 3090 (gpu:0, gpu:1) in x16 slots, the two
RTX 3060 (gpu:2, gpu:3) in x8 slots. The driver offers no peer-to-peer over PCIe between such GPUs
(github.com/NVIDIA/nccl, issue 1127, for the RTX 3090), so transfers go through host memory, but for the two that the
bridge joins.

The GPUs are in `gpus.ampere_graphics`. Links and memory are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.ampere_graphics import RTX_3060, RTX_3090
from torchplace.placement.topology.parts.pcie import PCIE4, Pcie
from torchplace.placement.topology.parts.sockets import memory
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology


def rtx3090_3060() -> Topology:
    """Two GeForce RTX 3090 (bridged, PCIe 4 x16) and two RTX 3060 (PCIe 4 x8) on one socket."""
    gpus = (*RTX_3090.devices(2), *RTX_3060.devices(4)[2:])
    switches = (Switch("socket:0", "cpu-socket"), Switch("memory:0", "host-memory"))
    links = [*RTX_3090.bonded("gpu:0", "gpu:1", RTX_3090.nvlinks), *memory("socket:0", "memory:0", 102.4e9)]
    for i, slot in enumerate((PCIE4, PCIE4, Pcie(4, 8), Pcie(4, 8))):
        links += slot.plug(f"gpu:{i}", "socket:0")
    return Topology("rtx3090-3060", gpus, switches, tuple(links))


MACHINE = Machine(rtx3090_3060, ("socket:0",), Pcie(4, 8))
