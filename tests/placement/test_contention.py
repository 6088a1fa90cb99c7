"""Transfers that meet on the three layouts of Big Sur, computed by hand, from program to timeline."""

from __future__ import annotations

import pytest

from tests.placement.written import program
from torchplace.compiler.graph import Graph
from torchplace.compiler.instructions import Send
from torchplace.compiler.program import Program
from torchplace.placement.cost.compute import Roofline
from torchplace.placement.simulate import simulate
from torchplace.placement.topology import Topology

MB = 1_000_000

# From switch to switch: bytes/s of what all transfers of that direction share, and seconds of latency from GPU to GPU.
BETWEEN = {
    "big-sur-single-root": (12e9, 5.7e-6 + 2 * 150e-9),
    "big-sur-dual-root": (6e9, 5.7e-6 + 2 * 150e-9 + 58e-9),
    "big-sur-cascaded": (12e9, 5.7e-6 + 150e-9),
}
WITHIN = (12e9, 5.7e-6)
"""The same under one switch, where every GPU has a link of its own."""


def sends(*moves: tuple[int, int, int]) -> Program:
    """All GPUs at once send what they hold: (source, target, MB)."""
    values = {f"v{n}": size * MB for n, (*_, size) in enumerate(moves)}
    lists: dict[str, list[str]] = {f"gpu:{i}": [] for i in range(8)}
    for n, (source, target, _) in enumerate(moves):
        lists[f"gpu:{source}"].append(f"send %v{n} to gpu:{target}")
        lists[f"gpu:{target}"].append(f"recv %v{n} from gpu:{source}")
    inputs = {f"v{n}": f"gpu:{source}" for n, (source, *_) in enumerate(moves)}
    return program(tuple(lists), values, inputs, lists)  # type: ignore[arg-type]  # it takes any row of names


def arrivals(layout: str, *moves: tuple[int, int, int]) -> list[float]:
    """When each transfer has arrived."""
    events = simulate(sends(*moves), Graph("moves"), Topology.preset(layout), Roofline()).events
    ends = {e.instruction.value: e.end for e in events if isinstance(e.instruction, Send)}
    return [ends[f"v{n}"] for n in range(len(moves))]


@pytest.mark.parametrize("layout", BETWEEN)
@pytest.mark.parametrize(
    ("moves", "megabytes"),
    [
        # What has passed the shared link, in MB, when the last byte of each has.
        pytest.param([(0, 4, 12)], [12], id="alone"),
        pytest.param([(0, 4, 12), (1, 5, 12)], [24, 24], id="two"),
        pytest.param([(0, 4, 12), (1, 5, 24)], [24, 36], id="two, the longer speeds up"),
        pytest.param([(0, 4, 12), (1, 5, 24), (2, 6, 36)], [36, 60, 72], id="three"),
        pytest.param([(0, 4, 12), (1, 5, 24), (2, 6, 36), (3, 7, 48)], [48, 84, 108, 120], id="four"),
        pytest.param([(0, 4, 12), (5, 1, 24)], [12, 24], id="opposite directions do not meet"),
        pytest.param([(0, 4, 12), (1, 5, 12), (6, 2, 12), (7, 3, 24)], [24, 24, 24, 36], id="two each way"),
    ],
)
def test_over_what_joins_the_switches(layout: str, moves: list[tuple[int, int, int]], megabytes: list[float]) -> None:
    bandwidth, latency = BETWEEN[layout]
    expected = [latency + passed * MB / bandwidth for passed in megabytes]
    assert arrivals(layout, *moves) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("layout", BETWEEN)
def test_under_one_switch_pairs_do_not_meet(layout: str) -> None:
    bandwidth, latency = WITHIN
    moves = [(0, 1, 12), (1, 0, 12), (2, 3, 12), (3, 2, 12), (4, 5, 12), (6, 7, 12)]
    assert arrivals(layout, *moves) == pytest.approx([latency + 12 * MB / bandwidth] * 6, rel=1e-9)


@pytest.mark.parametrize("layout", BETWEEN)
def test_one_that_stays_and_one_that_crosses_share_where_they_begin(layout: str) -> None:
    """Both leave gpu:0. Half of its link is no less than QPI, so on the dual root the first pair is held by 6 GB/s too."""
    _, latency = BETWEEN[layout]
    crossing, staying = arrivals(layout, (0, 4, 12), (0, 1, 12))
    assert crossing == pytest.approx(latency + 12 * MB / 6e9, rel=1e-9)
    assert staying == pytest.approx(WITHIN[1] + 12 * MB / 6e9, rel=1e-9)


@pytest.mark.parametrize("layout", BETWEEN)
def test_three_from_one_gpu(layout: str) -> None:
    """4 GB/s each, which QPI has for one: nobody notices it; where two cross, they have 3 each, and 6 are left."""
    bandwidth, latency = BETWEEN[layout]
    one, *_ = arrivals(layout, (0, 4, 12), (0, 1, 12), (0, 2, 12))
    assert one == pytest.approx(latency + 12 * MB / 4e9, rel=1e-9)
    first, second, stays = arrivals(layout, (0, 4, 12), (0, 5, 12), (0, 1, 12))
    if bandwidth == 6e9:
        assert stays == pytest.approx(WITHIN[1] + 12 * MB / 6e9, rel=1e-9)
        assert [first, second] == pytest.approx([latency + 12 * MB / 3e9] * 2, rel=1e-9)
    else:
        assert [first, second] == pytest.approx([latency + 12 * MB / 4e9] * 2, rel=1e-9)
        assert stays == pytest.approx(WITHIN[1] + 12 * MB / 4e9, rel=1e-9)
