"""Workers: the threads of a process's devices."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

import torch

from torchplace.compiler.dynamo import below_autograd
from torchplace.runtime.affinity import keep_to

Job = Callable[[], None]

IDLE_SECONDS = 0.5
"""After so long without a job, the thread of a device ends; the next job starts another, which takes some 0.1 ms."""


class Worker:
    """The thread of one device: does jobs in the order in which they come. It ends when it has had none for a while.

    A thread that rests has intra-op threads that rest, too, and torch's thread pools slow each other where they have
    more threads than there are cores.
    """

    def __init__(self, name: str, cores: frozenset[int] = frozenset()) -> None:
        """Of a device, on some cores of the CPU; none stands for any."""
        self.name, self.cores = name, cores
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, job: Job) -> None:
        """Have a job done."""
        with self._lock:
            self.jobs.put(job)
            if self.thread is None:
                self.thread = threading.Thread(target=self._loop, name=f"torchplace {self.name}", daemon=True)
                self.thread.start()

    def _loop(self) -> None:
        keep_to(self.cores)
        with torch.no_grad(), below_autograd():
            while (job := self._next()) is not None:
                job()
                del job  # it holds the runtime

    def _next(self) -> Job | None:
        """The next job; None when there was none for so long that the thread ends."""
        try:
            return self.jobs.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            with self._lock:
                if self.jobs.empty():
                    self.thread = None
                    return None
            return self.jobs.get()


class Workers:
    """The workers of devices, each made when it is needed."""

    def __init__(self) -> None:
        """None yet."""
        self._workers: dict[tuple[str, frozenset[int]], Worker] = {}
        self._submitting = threading.Lock()

    def submit(self, jobs: Mapping[str, Job], cores: Mapping[str, frozenset[int]]) -> None:
        """Give every device its job of one call. All at once: two calls never stand in different orders.

        Args:
            jobs: by device.
            cores: that a device keeps to; others go anywhere.
        """
        with self._submitting:
            for device, job in jobs.items():
                self._worker(device, cores.get(device, frozenset())).submit(job)

    def mine(self) -> bool:
        """Whether the calling thread is one of these (it must not wait for the others)."""
        return any(w.thread is threading.current_thread() for w in self._workers.values())

    def _worker(self, device: str, cores: frozenset[int]) -> Worker:
        if (device, cores) not in self._workers:
            self._workers[device, cores] = Worker(device, cores)
        return self._workers[device, cores]
