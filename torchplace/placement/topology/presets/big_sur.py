"""Big Sur, Facebook's GPU server of 2015: eight Tesla M40 on PCI Express 3.0.

What is public about the machine: it has eight GPUs, was built with the Tesla M40 in mind, and lets the PCIe
topology be configured (Facebook Engineering, "Facebook to open-source AI hardware design", 2015,
code.facebook.com/posts/1687861518126048). The posts say neither how many switches there are nor which
layouts; the layouts here are the three that PCIe servers of eight GPUs come in (Supermicro, "4U GPU System -
PCIe Root Architectures", describes the same three). Each has two switches with four GPUs, because eight x16
slots are 128 lanes, more than one switch of the time had (PLX PEX 8796: 96, says its product brief).

The GPU is a Tesla M40 (`gpus.maxwell`).

Links and sockets are as in `pcie` and `sockets`. A cluster gives each box one NIC, in an x16 slot of the first socket:
the posts do not say where it was.
"""

from __future__ import annotations

from functools import partial

from torchplace.errors import OptionError
from torchplace.placement.topology.checks import did_you_mean
from torchplace.placement.topology.gpus.maxwell import M40
from torchplace.placement.topology.link import Link
from torchplace.placement.topology.parts.pcie import PCIE3
from torchplace.placement.topology.parts.sockets import joint
from torchplace.placement.topology.presets.machine import Machine
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

GPUS = 8

# What joins the two switches "pcie:0" and "pcie:1", and through how many sockets.
_LAYOUTS: dict[str, tuple[int, tuple[Link, ...]]] = {
    "single-root": (1, PCIE3.uplink("pcie:0", "socket:0") + PCIE3.uplink("pcie:1", "socket:0")),
    "dual-root": (
        2,
        PCIE3.uplink("pcie:0", "socket:0")
        + PCIE3.uplink("pcie:1", "socket:1")
        + joint("socket:0", "socket:1", "broadwell"),
    ),
    "cascaded": (1, PCIE3.uplink("pcie:0", "socket:0") + PCIE3.uplink("pcie:1", "pcie:0")),
}
LAYOUTS = tuple(_LAYOUTS)


def big_sur(layout: str = "single-root") -> Topology:
    """Facebook's Big Sur: eight Tesla M40, four on each of two PCIe switches.

    Args:
        layout: how the switches are joined. "single-root": both under one socket, so that peers on different
            switches meet at its root complex. "dual-root": a socket each, joined by QPI. "cascaded": the
            second switch hangs below the first, and one x16 link leads to the socket.

    Raises:
        OptionError: no layout has that name.
    """
    if layout not in _LAYOUTS:
        raise OptionError(
            f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}{did_you_mean(str(layout), LAYOUTS)}"
        )
    sockets, joints = _LAYOUTS[layout]
    slots = tuple(link for i in range(GPUS) for link in PCIE3.plug(f"gpu:{i}", f"pcie:{i // 4}"))
    switches = (
        *(Switch(f"socket:{i}", "cpu-socket") for i in range(sockets)),
        *(Switch(f"pcie:{i}", "pcie-switch") for i in range(2)),
    )
    name = "big-sur" if layout == "single-root" else f"big-sur-{layout}"
    return Topology(name, M40.devices(GPUS), switches, slots + joints)


MACHINES = {layout: Machine(partial(big_sur, layout), ("socket:0",), PCIE3) for layout in LAYOUTS}
