"""Devices that compute together keep to cores of their own."""

from __future__ import annotations

import os
import threading

import pytest

from torchplace.placement.topology import CoRun, Device, Switch, Topology, both_ways
from torchplace.runtime.affinity import deal_cores, keep_to


def cpus(count: int, threads: int) -> Topology:
    devices = tuple(Device(f"cpu:{i}", "cpu", 1, {"float32": 1.0}, 1.0, 0.0, threads=threads) for i in range(count))
    links = tuple(link for d in devices for link in both_ways(d.name, "memory", "memory", 1e9, 0.0))
    group = CoRun("cores", tuple(d.name for d in devices), 8.0)
    return Topology("cpus", devices, (Switch("memory", "host-memory"),), links, (group,))


def test_as_many_cores_as_threads_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7, 3, 4, 5, 9}, raising=False)
    dealt = deal_cores(cpus(3, 2), ["cpu:0", "cpu:2"])
    assert dealt == {"cpu:0": {3, 4}, "cpu:2": {5, 7}}
    assert deal_cores(cpus(3, 2), ["cpu:0", "cpu:1", "cpu:2"]) == {}, "six threads, five cores"
    assert deal_cores(cpus(3, 2), ["cpu:1"]) == {}, "who is alone goes anywhere"


def test_only_the_thread_that_asks_is_kept() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity of threads")
    before = os.sched_getaffinity(0)
    core = frozenset({min(before)})
    seen: list[set[int]] = []

    def work() -> None:
        keep_to(core)
        seen.append(os.sched_getaffinity(0))
        keep_to(frozenset())
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [core, core]
    assert os.sched_getaffinity(0) == before
