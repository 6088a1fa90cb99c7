"""Pieces that are fitted to transfer times are those that made them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplace.errors import CostError
from torchplace.placement.cost.pieces import MAX_PIECES, fit_pieces
from torchplace.placement.topology import Link, Piece, Route

SIZES = (1, 64, 256, *(1 << k for k in range(9, 27)))
Curve = Callable[[float], float]


def curve(pieces: Sequence[Piece]) -> Curve:
    """Seconds of a transfer of a size."""
    return Route((Link("a", "b", "wire", 1.0, 0.0, tuple(pieces)),)).time


@st.composite
def piece_lists(draw: st.DrawFn, most: int = 3) -> list[Piece]:
    """Pieces that differ well: each stands on four sizes or more, and its line meets the one before, or jumps up."""
    starts = sorted(draw(st.permutations(range(4, len(SIZES) - 4, 4)))[: draw(st.integers(0, most - 1))])
    pieces = [Piece(0, draw(st.floats(1e-6, 1e-3)), draw(st.floats(1e7, 1e10)))]
    for k in starts:
        before, start = pieces[-1], (SIZES[k - 1] + SIZES[k]) // 2
        faster = draw(st.sampled_from([0.2, 0.4, 2.5, 5.0]))
        there = before.latency + start / before.bandwidth
        here = there * draw(st.sampled_from([1.0, 1.0, 1.5, 3.0]))
        pieces.append(Piece(start, here - start / (before.bandwidth * faster), before.bandwidth * faster))
    return pieces


@settings(deadline=None)
@given(piece_lists())
def test_what_made_the_times_is_found(made: list[Piece]) -> None:
    time = curve(made)
    found = fit_pieces({n: [time(n)] * 3 for n in SIZES})
    assert len(found) <= len(made)
    again = curve(found)
    for n in SIZES:
        assert again(n) == pytest.approx(time(n), rel=0.1)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param([Piece(0, 5e-5, 1e9)], id="one"),
        pytest.param([Piece(0, 2e-6, 5e9), Piece(50_000, 1e-5, 12e9)], id="eager and rendezvous"),
        pytest.param([Piece(0, 2.6e-5, 1e10), Piece(1900, -1.33e-4, 11.95e6)], id="token bucket"),
        pytest.param([Piece(0, 2.6e-5, 9e9), Piece(3_000_000, 1e-4, 4e9)], id="caches"),
        pytest.param([Piece(0, 7e-6, 1e9), Piece(3000, 9e-6, 4e9), Piece(500_000, 1.2e-4, 2e10)], id="three protocols"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_noise_makes_no_pieces(made: list[Piece], seed: int) -> None:
    """Of times with a noise of 4%, and some that took much longer, come as many pieces, each near its own."""
    time, chance = curve(made), random.Random(seed)
    samples = {n: [time(n) * chance.gauss(1, 0.04) for _ in range(15)] + [3 * time(n)] * 2 for n in SIZES}
    found = fit_pieces(samples)
    assert len(found) == len(made)
    for one, other in zip(found, made, strict=True):
        assert one.nbytes <= 2 * other.nbytes
    assert found[-1].bandwidth == pytest.approx(made[-1].bandwidth, rel=0.1)
    again = curve(found)
    for n in (3, 100, 700, 1500, 5000, 12_345, 100_000, 1_500_000, 6_000_000, 50_000_000):
        assert again(n) == pytest.approx(time(n), rel=0.06)


def test_no_single_size_bends_a_line() -> None:
    time = curve([Piece(0, 5e-5, 1e9)])
    samples = {n: [time(n) * (4 if n == 4096 else 1)] * 9 for n in SIZES}
    (found,) = fit_pieces(samples)
    assert found.latency == pytest.approx(5e-5, rel=0.03)
    assert found.bandwidth == pytest.approx(1e9, rel=0.03)


times = st.floats(1e-9, 1e3)


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 1 << 30), st.lists(times, min_size=1, max_size=4), min_size=1, max_size=12))
def test_whatever_was_measured_times_never_fall(samples: dict[int, list[float]]) -> None:
    found = fit_pieces(samples)
    assert 1 <= len(found) <= MAX_PIECES
    assert found[0].nbytes == 0
    lines = [(p.nbytes, p.latency, p.bandwidth) for p in found]
    for (_, latency, bandwidth), (start, after, faster) in pairwise(lines):
        # A piece begins at a whole number of bytes; what the lines lose by that is less than a byte's time.
        slack = 1 / bandwidth + 1e-9 * (abs(latency) + abs(after))
        assert after + start / faster >= latency + start / bandwidth - slack
    time = curve(found)
    assert time(0) >= 0
    sizes = sorted({*samples, *(n + 1 for n in samples), 0, 1 << 31})
    taken = [time(n) for n in sizes]
    assert all(one <= other * (1 + 1e-12) for one, other in pairwise(taken))


def test_what_does_not_depend_on_the_size_has_a_bandwidth_too() -> None:
    (found,) = fit_pieces({n: [1e-5] for n in SIZES})
    assert found.latency == pytest.approx(1e-5, rel=1e-3)
    assert SIZES[-1] / found.bandwidth < 1e-6


def test_one_size_is_a_latency() -> None:
    assert fit_pieces({8: [2e-5, 1e-5, 3e-5]})[0].latency == pytest.approx(2e-5)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({}, "no transfer was measured"),
        ({8: []}, r"transfers of 8 bytes took \[\], expected seconds above 0"),
        ({8: [1.0], 9: [1.0, 0.0]}, r"transfers of 9 bytes took \[1.0, 0.0\]"),
        ({8: [float("nan")]}, r"took \[nan\]"),
    ],
)
def test_nothing_to_fit(samples: dict[int, list[float]], message: str) -> None:
    with pytest.raises(CostError, match=message):
        fit_pieces(samples)
