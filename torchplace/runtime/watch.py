"""Watches over the ranks of a job: when one fails, dies or hangs, all learn of it soon, and of the cause."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from torch.distributed import distributed_c10d
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from torchplace.errors import RankError

BEAT = 0.5
"""Seconds between two looks at the others."""

IDLE = 20.0
"""Times the timeout for which a rank may do something else between its steps."""

_FAULT = "fault"


class Watch:
    """One rank's watch: a thread that tells the others that it is there, and looks at what they say.

    What a rank does is written into `doing` by whoever does it; so long as that changes, it works. The first to notice
    a fault says what it is, in the job's key-value store; all others take it from there.

    Attributes:
        doing: the instruction that the rank is at, or what else it does; "" while it is outside of steps.
        waiting: the rank that it waits for; None while it works.
        patient: what it does may take long.
        reason: what has failed; "" while all is well.
    """

    def __init__(self, store: distributed_c10d.Store, rank: int, size: int, timeout: float) -> None:
        """Begin to watch.

        Args:
            store: of the job, for this watch alone.
            rank: of this process.
            size: how many ranks there are.
            timeout: seconds after which a rank that does not go on counts as hanging.
        """
        self.store, self.rank, self.size, self.timeout = store, rank, size, timeout
        self.doing, self.reason = "", ""
        self.waiting: int | None = None
        self.patient = False
        self._steps = 0  # how often `doing` was written
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._heard: dict[int, tuple[Any, float]] = {}  # rank -> its last beat, and when that was new
        self._thread = threading.Thread(target=self._loop, name="torchplace watch", daemon=True)
        self._thread.start()

    def at(self, doing: str, waiting: int | None = None, patient: bool = False) -> None:
        """Say what this rank does now, for whom it waits, and whether it may take long."""
        self.doing, self.waiting, self.patient = doing, waiting, patient
        self._steps += 1

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called once something has failed; at once if it has already."""
        with self._lock:
            self._listeners.append(listener)
            failed = bool(self.reason)
        if failed:
            listener()

    def ignore(self, listener: Callable[[], None]) -> None:
        """Call a function no more."""
        with self._lock:
            self._listeners.remove(listener)

    def fail(self, text: str) -> None:
        """Say that something has failed here, or that another rank is lost; what was said first stands."""
        try:
            first = self.store.compare_set(_FAULT, "", text).decode()
        except RuntimeError:  # the store is gone: what is known here is all that there is
            first = text
        self._learn(first or text)

    def error(self) -> RankError:
        """What to raise, once something has failed; also left where torchrun looks for the cause."""
        self._told.wait(2 * BEAT)
        if self.rank == 0 and not _agent_holds_the_store():
            sleep(2 * BEAT)  # the store ends with this process, and the others have to hear of the cause before
        error = RankError(self.reason or "a rank has failed")
        if os.environ.get("TORCHELASTIC_ERROR_FILE"):
            _leave(error)
        return error

    def stop(self) -> None:
        """Watch no more: Python, at its end, must not find the thread in the midst of the store's C++."""
        self._told.set()
        self._thread.join(4 * BEAT)

    def _learn(self, reason: str) -> None:
        with self._lock:
            if self.reason:
                return
            self.reason = reason
            listeners = list(self._listeners)
        self._told.set()
        for listener in listeners:
            listener()

    def _loop(self) -> None:
        steps, since, beat = -1, monotonic(), 0
        while not self._told.wait(BEAT):
            beat += 1
            try:
                self._beat(beat)
                if self.store.check([_FAULT]):
                    self._learn(self.store.get(_FAULT).decode())
                    return
                if steps != self._steps or not self.doing:
                    steps, since = self._steps, monotonic()
                elif (silent := monotonic() - since) > self.timeout:
                    self._judge(silent)
            except RuntimeError as error:
                if not self.doing:  # the job may be over, and who holds the store has ended first
                    return
                holder = "torchrun" if _agent_holds_the_store() else "rank 0"
                self._learn(f"{holder} is lost: rank {self.rank} cannot reach the job's store, which it holds: {error}")

    def _beat(self, beat: int) -> None:
        now = monotonic()
        self.store.set(f"beat/{self.rank}", json.dumps([beat, self.doing, self.patient, self.waiting]))
        watched = self.waiting
        if watched is not None and self.store.check([f"beat/{watched}"]):
            said = json.loads(self.store.get(f"beat/{watched}"))
            if self._heard.get(watched, (None, 0.0))[0] != said:
                self._heard[watched] = said, now

    def _judge(self, silent: float) -> None:
        """This rank has not gone on for some seconds: it hangs itself, or who it waits for has stopped."""
        if self.waiting is None:
            if not self.patient:
                self.fail(
                    f"rank {self.rank} hangs: it has been at '{self.doing}' for {silent:.0f} s (option fault_timeout)"
                )
            return
        said, when = self._heard.get(self.waiting, ([0, "nothing yet", False, None], 0.0))
        doing, patient = said[1], said[2]
        if monotonic() - when > min(self.timeout, 10 * BEAT):
            self.fail(f"rank {self.waiting} does not answer: its last sign of life was at '{doing}'")
        elif not doing and not patient and silent > IDLE * self.timeout:
            self.fail(
                f"rank {self.rank} waits at '{self.doing}' for rank {self.waiting}, which has been in no step for "
                f"{silent:.0f} s; expected every rank to make the same steps"
            )
        elif silent > 2 * self.timeout and (circle := self._circle()):
            self.fail(
                f"ranks wait for each other: {circle}; expected every rank to make the same steps on the same shapes"
            )

    def _circle(self) -> str:
        """Who waits for whom, from this rank back to it; "" where the row of those who wait has an end."""
        rank, row = self.rank, [f"rank {self.rank} at '{self.doing}'"]
        waits = self.waiting
        while waits is not None and waits != self.rank and len(row) <= self.size:
            rank = waits
            said = json.loads(self.store.get(f"beat/{rank}"))
            row.append(f"rank {rank} at '{said[1]}'")
            waits = said[3]
        return ", ".join(row) if waits == self.rank else ""


def _agent_holds_the_store() -> bool:
    """Whether the job's store is torchrun's; else it is in the process of rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _leave(error: RankError) -> None:
    """Write an error to the file that torchrun reads; it looks for one that is being handled."""
    handler = get_error_handler()
    handler.initialize()
    try:
        raise error
    except RankError:
        handler.record_exception(error)
    error.__traceback__ = None
