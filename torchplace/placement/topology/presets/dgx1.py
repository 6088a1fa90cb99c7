"""What the two DGX-1 have in common: the chassis, which is NVIDIA's server of 2016 and 2017.

Two sockets (Xeon E5-2698 v4, Broadwell), eight GPUs in SXM2 modules on a hybrid cube mesh of NVLinks, four PCIe
switches with two GPUs and a 100 Gbit/s NIC each, two of the switches below each socket (NVIDIA, "DGX-1 with Tesla V100
system architecture", white paper WP-08437). The NIC columns of the matrix that `nvidia-smi topo -m` prints on a DGX-1
show GPUs 0 and 1, 2 and 3, 4 and 5, 6 and 7 each below one PCIe switch, and the first four on one socket (it is in
Microway's HPC tech tips on `nvidia-smi`). NCCL's own topology dump of such a machine agrees
(github.com/NVIDIA/nccl, issue 671).

Links and sockets are as in `pcie`, `sockets` and `nvlink`.
"""

from __future__ import annotations

from collections.abc import Iterable

from torchplace.placement.topology.gpus.model import GpuModel
from torchplace.placement.topology.parts.pcie import PCIE3
from torchplace.placement.topology.parts.sockets import joint
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 8
NICS = tuple(f"pcie:{i}" for i in range(4))
SLOT = PCIE3


def dgx1(name: str, gpu: GpuModel, mesh: Iterable[tuple[int, int, int]]) -> Topology:
    """A DGX-1 with GPUs of some model; `mesh` has pairs of GPUs and how many NVLinks join them."""
    switches = (
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(2)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(4)),
    )
    links = [link for one, other, number in mesh for link in gpu.bonded(f"gpu:{one}", f"gpu:{other}", number)]
    for i in range(GPUS):
        links += PCIE3.plug(f"gpu:{i}", f"pcie:{i // 2}")
    for i in range(4):
        links += PCIE3.uplink(f"pcie:{i}", f"socket:{i // 2}")
    links += joint("socket:0", "socket:1", "broadwell")
    return Topology(name, gpu.devices(GPUS), switches, tuple(links))
