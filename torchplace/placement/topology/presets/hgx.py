"""What DGX H100 and DGX B200 have in common: eight GPUs behind NVSwitches, each with a NIC of its own.

PCIe 5: each GPU shares a switch with one ConnectX-7 NIC, and four such switches are below each of two sockets. Read
off the matrix of `nvidia-smi topo -m` on eight H100 (github.com/NVIDIA/nccl, issue 1264) and on eight B200
(github.com/unslothai/unsloth, issue 3872): one NIC is PIX or PXB to each GPU, and GPUs 0 to 3 are on the first
socket of the H100's.
"""

from __future__ import annotations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.presets.nvlink import switched
from torchplace.placement.topology.presets.pcie import PCIE5
from torchplace.placement.topology.presets.sockets import joint
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 8
NVLINKS = 18
NICS = tuple(f"pcie:{i}" for i in range(GPUS))
SLOT = PCIE5


def hgx(name: str, gpus: tuple[Device, ...], generation: int, cpu: str) -> Topology:
    """Eight GPUs with 18 NVLinks of some generation each, and two sockets of some CPU."""
    switches = (
        Switch("nvswitch", "nvswitch"),
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(2)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(GPUS)),
    )
    links = [*joint("socket:0", "socket:1", cpu)]
    for i in range(GPUS):
        links += switched(f"gpu:{i}", "nvswitch", generation, NVLINKS)
        links += PCIE5.plug(f"gpu:{i}", f"pcie:{i}")
        links += PCIE5.uplink(f"pcie:{i}", f"socket:{i // 4}")
    return Topology(name, gpus, switches, tuple(links))
