"""PCI Express of any generation, as machines use it.

What the links are costed with, and where the figures come from:

- Bandwidth: 12 GB/s each way for 16 lanes of generation 3 (`PCI_BW` in NCCL's `src/graph/topo.h`), and twice that
  for each generation after it: NCCL's `src/graph/topo.cc`, `kvDictPciGen`, gives a lane 1.5, 3, 6, 12, 24 and 48
  Gbit/s for the generations 1 to 6. These are what NCCL expects to be achieved; on paper 16 lanes of generation 3 move
  15.75 GB/s.
- A transfer between two GPUs over PCIe starts after 5.7 us: NCCL's `src/graph/tuning.cc`, hardware latencies, row
  PCI, ring, Simple protocol. Both ends have a half of it: the link between a GPU and whatever it is plugged into.
- A packet crosses a PCIe switch in at most 150 ns: product brief of the PLX (Broadcom) PEX 8796, a switch of
  generation 3 with 96 lanes. It is the latency of a link that leaves a switch towards its socket or another switch;
  nominal for later generations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torchplace.errors import OptionError
from torchplace.placement.topology.link import Link, both_ways

GPU_LATENCY = 5.7e-6 / 2
SWITCH_LATENCY = 150e-9

_LANE_BANDWIDTH = {1: 0.1875e9, 2: 0.375e9, 3: 0.75e9, 4: 1.5e9, 5: 3e9, 6: 6e9}
_WIDTHS = (1, 2, 4, 8, 12, 16, 32)


@dataclass(frozen=True)
class Pcie:
    """A PCIe link of some generation (1 to 6) and width.

    Raises:
        OptionError: there is no such generation or width.
    """

    generation: int
    lanes: int = 16

    def __post_init__(self) -> None:
        if self.generation not in _LANE_BANDWIDTH or self.lanes not in _WIDTHS:
            raise OptionError(
                f"PCIe generation {self.generation!r} with {self.lanes!r} lanes: expected a generation from 1 to"
                f" {max(_LANE_BANDWIDTH)} and {', '.join(map(str, _WIDTHS))} lanes"
            )

    @classmethod
    def parse(cls, text: str) -> Pcie:
        """Takes "4" (16 lanes) or "4x8".

        Raises:
            OptionError: it has another form, or there is no such link.
        """
        found = re.fullmatch(r"([0-9]{1,2})(?:x([0-9]{1,2}))?", text.strip())
        if not found:
            raise OptionError(f"PCIe link {text!r}: expected a generation, and lanes if not 16, such as '4' or '4x8'")
        return cls(int(found[1]), int(found[2] or 16))

    @classmethod
    def nearest(cls, generation: int, lanes: int) -> Pcie:
        """The fastest link that is no faster than what is reported, of those that there are."""
        fits = [width for width in _WIDTHS if width <= lanes]
        return cls(min(max(generation, 1), max(_LANE_BANDWIDTH)), max(fits, default=1))

    @property
    def kind(self) -> str:
        """As links name it: "pcie4-x16"."""
        return f"pcie{self.generation}-x{self.lanes}"

    @property
    def bandwidth(self) -> float:
        """Bytes/s each way."""
        return self.lanes * _LANE_BANDWIDTH[self.generation]

    def plug(self, gpu: str, into: str) -> tuple[Link, Link]:
        """A GPU in a slot of a switch or socket."""
        return both_ways(gpu, into, self.kind, self.bandwidth, GPU_LATENCY)

    def uplink(self, switch: str, to: str) -> tuple[Link, Link]:
        """A switch's port to a socket or to another switch."""
        return both_ways(switch, to, self.kind, self.bandwidth, SWITCH_LATENCY)

    def slot(self, nic: str, into: str) -> tuple[Link, Link]:
        """A NIC in a slot; its latency is in the network's figure (`networks`)."""
        return both_ways(nic, into, self.kind, self.bandwidth, 0.0)


PCIE3, PCIE4, PCIE5 = Pcie(3), Pcie(4), Pcie(5)
