"""The hardware: devices, switches and links as a graph, presets, files, and this machine."""

from __future__ import annotations

from torchplace.placement.topology.corun import CoRun
from torchplace.placement.topology.device import Device
from torchplace.placement.topology.draw import dot_text, draw_text, matrix_text
from torchplace.placement.topology.host import Host
from torchplace.placement.topology.link import Link, both_ways
from torchplace.placement.topology.piece import Piece
from torchplace.placement.topology.route import Route
from torchplace.placement.topology.switch import Switch
from torchplace.placement.topology.topology import Topology

__all__ = [
    "CoRun",
    "Device",
    "Host",
    "Link",
    "Piece",
    "Route",
    "Switch",
    "Topology",
    "both_ways",
    "dot_text",
    "draw_text",
    "matrix_text",
]
