"""The devices of a topology as a table: how many of each sort, and what one of them can do."""

from __future__ import annotations

from torchplace.placement.topology.device import Device
from torchplace.placement.topology.draw.words import columns, rate, three
from torchplace.placement.topology.topology import Topology

_DTYPES = ("float32", "float16", "bfloat16", "int8", "float64")
_MOST = 16
"""Sorts of devices that are shown, unless all are asked for: measured devices may all differ a little."""


def kinds_lines(topology: Topology, full: bool = False) -> list[str]:
    """A table with a line for each sort of device; devices of one kind that differ are of two sorts."""
    sorts: dict[tuple[object, ...], list[Device]] = {}
    for device in topology.devices:
        peaks = tuple(sorted(device.peak_flops.items()))
        key = (device.kind, device.memory, device.memory_bandwidth, peaks, device.peer_to_peer)
        sorts.setdefault(key, []).append(device)
    shown = list(sorts.values())[: None if full else _MOST]
    unit, size = _unit(topology)
    dtypes = sorted({dtype for group in shown for dtype in group[0].peak_flops}, key=_order)
    rows = [["", "device", "memory", "bandwidth", f"{unit}: ", *dtypes, ""]]
    rows += [_row(group, dtypes, size) for group in shown]
    lines = columns(rows, right=[0, 2, 3, *range(5, 5 + len(dtypes))])
    more = len(sorts) - len(shown)
    return [*lines, f"and {more:,} more sorts"] if more else lines


def _unit(topology: Topology) -> tuple[str, float]:
    fastest = max(flops for device in topology.devices for flops in device.peak_flops.values())
    return ("TFLOP/s", 1e12) if fastest >= 1e12 else ("GFLOP/s", 1e9)


def _order(dtype: str) -> tuple[int, str]:
    return (_DTYPES.index(dtype) if dtype in _DTYPES else len(_DTYPES)), dtype


def _row(group: list[Device], dtypes: list[str], size: float) -> list[str]:
    device = group[0]
    peaks = [three(device.peak_flops[dtype] / size) if dtype in device.peak_flops else "-" for dtype in dtypes]
    note = "" if device.peer_to_peer else "no peer-to-peer"
    memory = f"{device.memory / 2**30:.1f} GiB"
    return [f"{len(group):,} x", device.kind, memory, rate(device.memory_bandwidth), "", *peaks, note]
