from __future__ import annotations

import pytest

from torchplace.errors import TopologyError
from torchplace.placement.topology import Link, both_ways


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
