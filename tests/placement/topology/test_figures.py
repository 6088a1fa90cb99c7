from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from torchplace.errors import TopologyError
from torchplace.placement.topology import figures
from torchplace.placement.topology.figures import CpuFigures, cache_directory, read_figures, write_figures

MEASURED = CpuFigures(
    peak_flops=1e11,
    memory_bandwidth=2e10,
    launch_overhead=1e-6,
    transfer_latency=4e-6,
    transfer_bandwidth=3e9,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_written_is_read(cache: Path) -> None:
    assert read_figures(2) is None
    path = write_figures(2, MEASURED)
    assert cache in path.parents
    assert read_figures(2) == MEASURED
    assert read_figures(1) is None, "another number of threads is another device"
    write_figures(2, CpuFigures())
    assert read_figures(2) == CpuFigures()


def test_another_cpu_or_torch_does_not_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    write_figures(2, MEASURED)
    with monkeypatch.context() as patch:
        patch.setattr(figures, "cpu_model", lambda: "Other CPU")
        assert read_figures(2) is None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9")
        assert read_figures(2) is None
    assert read_figures(2) == MEASURED


def test_a_renamed_file_is_not_taken_for_another() -> None:
    path = write_figures(2, MEASURED)
    path.rename(figures.figures_path(3))
    assert read_figures(3) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cpu": "x"}', "\x00"])
def test_a_damaged_file_is_named_and_not_used(text: str) -> None:
    path = write_figures(2, MEASURED)
    path.write_text(text, encoding="utf-8")
    with pytest.warns(UserWarning, match="not used, measure again or delete") as caught:
        assert read_figures(2) is None
    assert str(path) in str(caught[0].message)


def test_a_wrong_figure_is_named() -> None:
    path = write_figures(2, MEASURED)
    path.write_text(path.read_text(encoding="utf-8").replace('"peak_flops": 1', '"peak_flops": -1'))
    with pytest.warns(UserWarning, match=r"figures\.peak_flops: Input should be greater than 0"):
        assert read_figures(2) is None


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path / "file"))
    with pytest.raises(TopologyError, match=r"cannot be written: .*; set TORCHPLACE_CACHE"):
        write_figures(2, MEASURED)
    assert read_figures(2) is None


def test_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("TORCHPLACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "torchplace"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_directory() == tmp_path / "home" / ".cache" / "torchplace"


def test_figures_are_checked() -> None:
    with pytest.raises(ValidationError):
        CpuFigures(peak_flops=0)
    with pytest.raises(ValidationError):
        CpuFigures(memory_bandwidth=float("inf"))
    assert CpuFigures.nominal(4).peak_flops == 4 * CpuFigures.nominal(1).peak_flops
    assert CpuFigures.nominal(1) == CpuFigures()


def test_the_cpu_has_a_name() -> None:
    assert figures.cpu_model().strip()
