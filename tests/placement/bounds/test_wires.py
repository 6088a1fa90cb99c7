from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import inf

import pytest

import torchplace.placement.bounds.wires as wires
from tests.placement.graphs import machine
from torchplace.placement.bounds.wires import Wires
from torchplace.placement.topology import Topology
from torchplace.placement.topology.piece import Piece

SIZES = (0, 1, 1000, 10**6, 10**9)


def test_one_device_sends_nothing() -> None:
    alone = Wires(machine([1]))
    assert (alone.least(100), alone.widest) == (0.0, inf)


@pytest.mark.parametrize("name", ["big-sur", "dgx1-v100", "rtx3090-3060", "rtx4090x4"])
def test_the_cheapest_of_all_pairs(name: str) -> None:
    topology = Topology.resolve(name)
    routes = [topology.route(*pair) for pair in permutations(topology.device_names, 2)]
    found = Wires(topology)
    for nbytes in SIZES:
        assert found.least(nbytes) == min(route.time(nbytes) for route in routes)
    assert found.widest == max(route.bandwidth for route in routes)


@pytest.mark.parametrize("name", ["big-sur", "dgx1-v100", "rtx3090-3060", "dgx-a100", "dgx1-v100*3@ndr400"])
def test_of_many_devices_first_and_last_links_promise_no_less_than_there_is(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = Topology.resolve(name)
    exact = Wires(topology)
    monkeypatch.setattr(wires, "_DEVICES", 1)
    rough = Wires(topology)
    for nbytes in SIZES:
        assert 0 < rough.least(nbytes) <= exact.least(nbytes) or nbytes == 0
    assert exact.widest <= rough.widest < inf


def test_of_many_devices_whose_links_have_pieces_nothing_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    star = machine([1] * 3)
    first = replace(star.links[0], pieces=(Piece(10, 0.0, 1.0),))
    sized = replace(star, links=(first, *star.links[1:]))
    monkeypatch.setattr(wires, "_DEVICES", 1)
    assert Wires(sized).least(100) == 0.0
