"""Figures of this machine: plausible ones are kept, disturbed ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchplace.placement.topology.figures import CpuFigures, read_figures
from torchplace.runtime import profile


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))


def figures(peak: float = 50e9, launch: float = 3e-6) -> CpuFigures:
    return CpuFigures(peak_flops=peak, launch_overhead=launch)


def test_measured_figures_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def measure(threads: int) -> CpuFigures:
        calls.append(threads)
        return figures(50e9 * threads)

    monkeypatch.setattr(profile, "measure_cpu", measure)
    assert profile.cpu_figures(2) == profile.cpu_figures(2) == read_figures(2)
    assert calls == [2, 1]


@pytest.mark.parametrize(
    ("two", "one"),
    [(figures(launch=1e-3), figures()), (figures(10e9), figures(50e9))],
    ids=["a small op takes a millisecond", "two threads are slower than one"],
)
def test_disturbed_figures_are_not_kept(monkeypatch: pytest.MonkeyPatch, two: CpuFigures, one: CpuFigures) -> None:
    monkeypatch.setattr(profile, "measure_cpu", {1: one, 2: two}.__getitem__)
    assert profile.cpu_figures(2) == CpuFigures.nominal(2)
    assert read_figures(2) is None


def test_measuring_gives_figures_and_leaves_the_threads_alone() -> None:
    import torch

    before = torch.get_num_threads()
    measured = profile.measure_cpu(1)
    assert torch.get_num_threads() == before
    assert min(measured.model_dump(exclude={"calibrated", "reference"}).values()) > 0
