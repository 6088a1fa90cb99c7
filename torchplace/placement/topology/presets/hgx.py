"""What DGX H100 and DGX B200 have in common: eight GPUs behind NVSwitches, each with a NIC of its own.

PCIe 5: each GPU shares a switch with one ConnectX-7 NIC, and four such switches are below each of two sockets, each at
a host bridge of its own. Read off the matrix of `nvidia-smi topo -m` on eight H100 (github.com/NVIDIA/nccl, issues 1264
and 1453) and on eight B200 (github.com/unslothai/unsloth, issue 3872): one NIC is PIX or PXB to each GPU, the others of
its socket NODE, and GPUs 0 to 3 are on the first socket of the H100's.
"""

from __future__ import annotations

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.pcie import PCIE5
from torchplace.placement.topology.parts.sockets import host_bridge, joint
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 8
NICS = tuple(f"pcie:{i}" for i in range(GPUS))
SLOT = PCIE5


def hgx(name: str, gpu: GpuModel, cpu: str) -> Topology:
    """Eight GPUs of some model, with all of their NVLinks, and two sockets of some CPU."""
    switches = (
        Switch("nvswitch", "nvswitch"),
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(2)),
        *(Switch(f"bridge:{i}", "host-bridge") for i in range(GPUS)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(GPUS)),
    )
    links = [*joint("socket:0", "socket:1", cpu)]
    for i in range(GPUS):
        links += gpu.switched(f"gpu:{i}", "nvswitch")
        links += PCIE5.plug(f"gpu:{i}", f"pcie:{i}")
        links += PCIE5.uplink(f"pcie:{i}", f"bridge:{i}")
        links += host_bridge(f"bridge:{i}", f"socket:{i // 4}")
    return Topology(name, gpu.devices(GPUS), switches, tuple(links))
