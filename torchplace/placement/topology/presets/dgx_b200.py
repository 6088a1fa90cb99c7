"""DGX B200, NVIDIA's server of 2024: eight B200 behind NVSwitches.

Eight GPUs with eighteen NVLink 5 each, two NVSwitches with 14.4 TB/s in all, two sockets (Xeon Platinum 8570, Emerald
Rapids), PCIe 5, eight ConnectX-7 NICs of 400 Gbit/s for the cluster (NVIDIA, "DGX B200" user guide, "Introduction to
NVIDIA DGX B200 Systems"). How they are joined is in `hgx`.

The GPU is a B200 with 180 GB (`gpus.blackwell`).

Links and sockets are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.blackwell import B200
from torchplace.placement.topology.presets.hgx import NICS, SLOT, hgx
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.topology import Topology


def dgx_b200() -> Topology:
    """NVIDIA's DGX B200: eight B200 180 GB behind NVSwitches, PCIe 5, two sockets."""
    return hgx("dgx-b200", B200, "emerald-rapids")


MACHINE = Machine(dgx_b200, NICS, SLOT, "ndr400")
