from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchplace.errors import OptionError, TopologyError
from torchplace.placement.cost.communication import AlphaBeta
from torchplace.placement.topology import Device, Link, Piece, Topology

DGX = Topology.preset("dgx1-v100")
COST = AlphaBeta(DGX)
devices = st.sampled_from(DGX.device_names)
sizes = st.integers(0, 1 << 36)


def test_hand_computed() -> None:
    assert COST.time("gpu:0", "gpu:3", 47_900_000) == pytest.approx(1e-3 + 3.4e-6)
    assert COST.time("gpu:0", "gpu:1", 23_950_000) == pytest.approx(1e-3 + 3.4e-6)
    assert COST.time("gpu:0", "gpu:7", 6_000_000) == pytest.approx(1e-3 + 5.7e-6 + 0.358e-6)
    assert COST.parameters("gpu:0", "gpu:3") == (3.4e-6, 47.9e9)


@given(devices, sizes)
def test_staying_is_free(device: str, nbytes: int) -> None:
    assert COST.time(device, device, nbytes) == 0


@given(devices, devices, sizes, sizes)
def test_laws(source: str, target: str, one: int, other: int) -> None:
    assert COST.time(source, target, one) == DGX.route(source, target).time(one)
    assert COST.time(source, target, one) == COST.time(target, source, one)
    if source == target:
        return
    assert COST.time(source, target, one) > 0
    assert (COST.time(source, target, one) <= COST.time(source, target, other)) == (one <= other)
    # Two transfers cost a latency more than one of both sizes.
    both = COST.time(source, target, one + other)
    assert both < COST.time(source, target, one) + COST.time(source, target, other)


def test_matrix() -> None:
    matrix = COST.matrix(1 << 20)
    assert [len(row) for row in matrix] == [8] * 8
    for i, source in enumerate(DGX.device_names):
        for j, target in enumerate(DGX.device_names):
            assert matrix[i][j] == COST.time(source, target, 1 << 20)


def test_wrong_arguments() -> None:
    with pytest.raises(OptionError, match="nbytes is -1"):
        COST.time("gpu:0", "gpu:1", -1)
    with pytest.raises(TopologyError, match=r"no device 'gpu:9'; did you mean"):
        COST.time("gpu:0", "gpu:9", 1)


def test_parameters_are_those_of_the_size() -> None:
    pieces = (Piece(0, 1e-5, 1e8), Piece(1000, 2e-5, 1e9))
    devices = [Device(name, "toy", 1 << 30, {"float32": 1.0}, 1.0, 1.0) for name in ("a", "b")]
    links = [Link("a", "b", "k", 1e9, 0.0, pieces), Link("b", "a", "k", 1e9, 0.0, pieces)]
    cost = AlphaBeta(Topology("two", tuple(devices), (), tuple(links)))
    assert cost.parameters("a", "b", 10) == (1e-5, 1e8)
    assert cost.parameters("a", "b") == (2e-5, 1e9), "those of 1 MiB"
    assert cost.time("a", "b", 999) == pytest.approx(1e-5 + 999 / 1e8)
    assert cost.time("a", "b", 100_000) == pytest.approx(2e-5 + 1e-4)
