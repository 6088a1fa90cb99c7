"""Workers do jobs in the order in which they come, each device's by itself, and rest when there are none."""

from __future__ import annotations

import queue
import threading

import pytest

from torchplace.runtime import workers
from torchplace.runtime.workers import Worker, Workers


def test_jobs_of_a_device_are_done_in_order_and_devices_do_not_wait_for_each_other() -> None:
    pool, done, held = Workers(), queue.SimpleQueue[str](), threading.Event()
    pool.submit({"a": held.wait, "b": lambda: done.put("b")}, {})  # type: ignore[dict-item]
    pool.submit({"a": lambda: done.put("a1")}, {})
    pool.submit({"a": lambda: done.put("a2")}, {})
    assert done.get(timeout=10) == "b"
    held.set()
    assert [done.get(timeout=10) for _ in range(2)] == ["a1", "a2"]


def test_a_worker_knows_itself() -> None:
    pool, said = Workers(), queue.SimpleQueue[bool]()
    pool.submit({"a": lambda: said.put(pool.mine())}, {})
    assert said.get(timeout=10)
    assert not pool.mine()


def test_a_worker_without_a_job_ends_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.01)
    worker, ran = Worker("a"), queue.SimpleQueue[threading.Thread]()
    threads = []
    for _ in range(2):
        worker.submit(lambda: ran.put(threading.current_thread()))
        threads.append(ran.get(timeout=10))
        threads[-1].join(timeout=10)
        assert not threads[-1].is_alive()
        assert worker.thread is None
    assert threads[0] is not threads[1]
