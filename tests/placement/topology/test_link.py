from __future__ import annotations

import pytest

from torchplace.errors import TopologyError
from torchplace.placement.topology import Link, Piece, both_ways


def test_name_and_lanes() -> None:
    assert Link("gpu:0", "pcie:0", "pcie3-x16", 12e9, 1e-6).name == "gpu:0->pcie:0"
    kinds = {"pcie3-x16": 16, "nvlink2": 1, "nvlink2-x2": 2, "qpi": 1, "x4-odd": 1}
    assert {kind: Link("a", "b", kind, 1, 0).lanes for kind in kinds} == kinds


def test_both_ways_are_each_others_reverse() -> None:
    there, back = both_ways("a", "b", "memory", 5e9, 2e-6)
    assert (there.source, there.target) == (back.target, back.source) == ("a", "b")
    assert (there.kind, there.bandwidth, there.latency) == (back.kind, back.bandwidth, back.latency)


@pytest.mark.parametrize(
    ("link", "named"),
    [
        (("a", "a", "k", 1.0, 0.0), "itself"),
        (("a b", "c", "k", 1.0, 0.0), "'a b'"),
        (("a", "", "k", 1.0, 0.0), "link target"),
        (("a", "b", "", 1.0, 0.0), "kind"),
        (("a", "b", "k", 0.0, 0.0), "bandwidth is 0.0"),
        (("a", "b", "k", float("inf"), 0.0), "bandwidth is inf"),
        (("a", "b", "k", 1.0, -1.0), "latency is -1.0"),
        (("a", "b", "k", 1.0, "1us"), "latency is '1us'"),
    ],
)
def test_wrong_values_are_named(link: tuple[str, str, str, float, float], named: str) -> None:
    with pytest.raises(TopologyError) as caught:
        Link(*link)
    assert named in str(caught.value)


def test_pieces_say_what_sizes_cost() -> None:
    later, always = Piece(100, 2.0, 5.0), Piece(0, 0.5, 1e9)
    assert Link("a", "b", "k", 3.0, 1.0).regimes == (Piece(0, 1.0, 3.0),)
    assert Link("a", "b", "k", 3.0, 1.0, (later,)).regimes == (Piece(0, 1.0, 3.0), later)
    assert Link("a", "b", "k", 3.0, 1.0, [always, later]).regimes == (always, later)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("piece", "named"),
    [
        ((-1, 0.0, 1.0), "nbytes is -1, expected a whole number, 0 or more (bytes)"),
        ((1.5, 0.0, 1.0), "nbytes is 1.5"),
        ((True, 0.0, 1.0), "nbytes is True"),
        ((8, 0.0, 0.0), "piece from 8 bytes on: bandwidth is 0.0"),
        ((8, 0.0, float("inf")), "bandwidth is inf"),
        ((8, float("nan"), 1.0), "latency is nan, expected a number"),
        ((8, "1us", 1.0), "latency is '1us'"),
        ((0, -1e-9, 1.0), "latency is -1e-09, expected a number, 0 or more (seconds)"),
        ((8, -2.1, 4.0), "latency is -2.1, expected a number, -2 or more, for 8 bytes take time (seconds)"),
    ],
)
def test_wrong_pieces_are_named(piece: tuple[int, float, float], named: str) -> None:
    with pytest.raises(TopologyError) as caught:
        Piece(*piece)
    assert named in str(caught.value)


def test_pieces_ascend() -> None:
    with pytest.raises(TopologyError, match="link a->b: a piece from 8 bytes on stands before one from 8 bytes on"):
        Link("a", "b", "k", 1.0, 0.0, (Piece(8, 0.0, 1.0), Piece(8, 1.0, 1.0)))
