"""DGX H100, NVIDIA's server of 2022: eight H100 behind NVSwitches.

Eight GPUs with eighteen NVLink 4 each, four NVSwitches, two sockets (Xeon Platinum 8480C, Sapphire Rapids), PCIe 5,
eight ConnectX-7 NICs of 400 Gbit/s for the cluster (NVIDIA, "DGX H100/H200" user guide). How they are joined is in
`hgx`.

The GPU is an H100 SXM5 with 80 GB (`gpus.hopper`).

Links and sockets are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.hopper import H100_SXM5
from torchplace.placement.topology.presets.hgx import NICS, SLOT, hgx
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.topology import Topology


def dgx_h100() -> Topology:
    """NVIDIA's DGX H100: eight H100 SXM5 80 GB behind NVSwitches, PCIe 5, two sockets."""
    return hgx("dgx-h100", H100_SXM5, "sapphire-rapids")


MACHINE = Machine(dgx_h100, NICS, SLOT, "ndr400")
