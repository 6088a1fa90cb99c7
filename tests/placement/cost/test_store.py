"""The store keeps what it is given, for every process, and says what is wrong with its file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.placement.graphs import machine
from torchplace.errors import CostError
from torchplace.placement.cost.store import CostStore, DeviceKey, Sample
from torchplace.placement.topology import Device

KEY, OTHER = DeviceKey("cpu", "some cpu", "2.13", 1), DeviceKey("cpu", "some cpu", "2.13", 2)


def sample(name: str, seconds: float = 1e-3) -> Sample:
    return Sample(name, f"aten.{name}()", f"aten.{name}", {"flops": 2.0}, seconds, 9)


def test_what_is_written_is_read_by_sort_of_device(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "new" / "costs.sqlite")
    assert (store.seconds(KEY), store.samples(KEY), store.devices()) == ({}, [], [])
    store.write(KEY, [sample("b"), sample("a")])
    store.write(OTHER, [sample("a", 5.0)])
    again = CostStore(store.path)
    assert again.seconds(KEY) == {"a": 1e-3, "b": 1e-3}
    assert again.samples(KEY) == [sample("a"), sample("b")]
    assert again.devices() == [KEY, OTHER]
    again.write(KEY, [sample("a", 7.0)])
    assert store.seconds(KEY) == {"a": 7.0, "b": 1e-3}, "measured again"


def test_workspaces_and_segments_are_kept_by_sort_of_device(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    assert (store.workspaces(KEY), store.segments(KEY)) == ({}, {})
    store.write_workspaces(KEY, {"a": 64})
    store.write_segments(KEY, {"a": 0.5, "b": 1.5})
    store.write_segments(OTHER, {"a": 9.0})
    store.write_segments(KEY, {"a": 2.5})
    assert (store.workspaces(KEY), store.segments(KEY)) == ({"a": 64}, {"a": 2.5, "b": 1.5})


def test_the_cache_directory_is_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHPLACE_CACHE", str(tmp_path))
    assert CostStore().path == tmp_path / "op-costs.sqlite"


def test_many_may_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: CostStore(path).write(KEY, [sample(f"op{i}")]), range(24)))
    assert len(CostStore(path).seconds(KEY)) == 24


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    store = CostStore(tmp_path / "costs.sqlite")
    broken = Sample("c", "aten.c()", "aten.c", {}, None, 1)  # type: ignore[arg-type]
    with pytest.raises(CostError, match="costs.sqlite"):
        store.write(KEY, [sample("a"), broken])
    assert store.seconds(KEY) == {}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "costs.sqlite"
    path.write_text("no database " * 100)
    with pytest.raises(CostError, match="costs.sqlite.*delete the file, or set TORCHPLACE_CACHE"):
        CostStore(path).seconds(KEY)


def test_devices_of_one_kind_share_what_was_measured_and_threads_tell_cpus_apart() -> None:
    gpu = machine([1, 1])
    assert DeviceKey.of(gpu.devices[0]) == DeviceKey.of(gpu.devices[1])
    one, two = (Device("c", "cpu", 1, {"float32": 1.0}, 1.0, 0.0, threads=n) for n in (1, 2))
    assert DeviceKey.of(one) != DeviceKey.of(two)
    assert DeviceKey.of(one).hardware
