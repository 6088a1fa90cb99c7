"""Streams, events, copies and random numbers of any torch accelerator; the only file that knows them.

Written against `torch.accelerator`, `torch.Stream` and `torch.Event` alone, so that CUDA, ROCm, XPU or any
PrivateUse1 device runs it. CPU devices need none of it: they share memory, so a reference is the transfer.

Programs compute on the default stream of each device; copies run beside it on streams of their own. Nothing here
relies on which of the two devices' streams a backend puts a copy on: each waits for the other.
"""

from __future__ import annotations

import functools
import os
import statistics
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist

from torchplace.runtime.transport import copy_to, same_memory


@dataclass(frozen=True, slots=True)
class Parcel:
    """A tensor on its way: the copy, and the event behind which it is complete."""

    tensor: Any
    done: torch.Event | None = None


class Courier:
    """Sends from one device to another, on streams of its own so that both devices go on computing."""

    def __init__(self, source: torch.device, target: torch.device) -> None:
        """Prepare to send from `source` to `target`."""
        self.source, self.target = source, target
        self._streams: tuple[torch.Stream, ...] = ()  # of the source, and of the target if it has any

    def send(self, value: Any, copy: bool) -> Parcel:
        """Start moving a value.

        Args:
            value: a tensor, or a scalar, which is passed on as it is; so is what eager has on the CPU in a program
                for accelerators.
            copy: the receiver must get memory of its own, for the sender will overwrite its.
        """
        if not isinstance(value, torch.Tensor):
            return Parcel(value)
        if same_memory(value.device, self.target) or value.device != self.source:
            return Parcel(copy_to(value, value.device) if copy else value)
        if not is_accelerator(self.source) or not has_streams(self.source.type):
            return Parcel(copy_to(value, self.target))  # in order with the current streams of both
        return self._copy_on_streams(value)

    def _copy_on_streams(self, tensor: torch.Tensor) -> Parcel:
        if not self._streams:
            devices = [d for d in (self.source, self.target) if is_accelerator(d)]
            self._streams = tuple(torch.Stream(device=d) for d in devices)
        here, there = self._streams[0], self._streams[-1]
        ready = torch.accelerator.current_stream(self.source).record_event()
        for stream in self._streams:
            stream.wait_event(ready)
        with ExitStack() as current:
            for stream in self._streams:
                current.enter_context(stream)
            copied = copy_to(tensor, self.target)
        there.wait_event(here.record_event())
        done = there.record_event()
        here.wait_event(done)
        tensor.record_stream(here)  # its memory is not reused before the copy has read it
        return Parcel(copied, done)

    def receive(self, parcel: Parcel) -> Any:
        """The value, once the target's current stream may use it; the host does not wait."""
        if parcel.done is not None:
            if is_accelerator(self.target):
                stream = torch.accelerator.current_stream(self.target)
                stream.wait_event(parcel.done)
                parcel.tensor.record_stream(stream)
            else:
                parcel.done.synchronize()
        return parcel.tensor


class SideStream:
    """A stream beside the one that computes, for one thread that moves values; on CPU devices it is nothing."""

    def __init__(self, device: torch.device) -> None:
        """Of one device."""
        self.device = device
        self._stream: torch.Stream | None = None

    @contextmanager
    def current(self, ready: torch.Event | None = None) -> Iterator[None]:
        """Within, it is the current one of this thread, and begins behind an event; then the host waits for it."""
        if not has_streams(self.device.type):
            with on_device(self.device):
                yield
            synchronize(self.device)
            return
        self._stream = self._stream or torch.Stream(device=self.device)
        if ready is not None:
            self._stream.wait_event(ready)
        with self._stream:
            yield
        self._stream.synchronize()

    def parcel(self, value: Any) -> Parcel:
        """A value that was made on it, for a stream that computes."""
        made_here = isinstance(value, torch.Tensor) and value.device.type == self.device.type
        return Parcel(value, self._stream.record_event() if made_here and self._stream is not None else None)


def ready(device: torch.device) -> torch.Event | None:
    """Behind it, all is done that this thread has given a device so far; None where there is nothing to wait for."""
    return torch.accelerator.current_stream(device).record_event() if has_streams(device.type) else None


class Visit:
    """A call whose caller may have made other streams current: programs wait for them, and they for programs.

    `visit(devices)` makes one; it does nothing where the caller's current streams are the default ones.
    """

    def __init__(self, streams: Sequence[tuple[torch.Stream, torch.Stream]]) -> None:
        """Of pairs of streams of one device: ours, and the caller's."""
        self._streams = streams

    def begin(self, given: Iterable[Any]) -> None:
        """Let our streams wait for what the caller has done; `given` are the values that it passes on."""
        for ours, theirs in self._streams:
            ours.wait_event(theirs.record_event())
            _declare(given, ours)

    def end(self, results: Iterable[Any]) -> None:
        """Let the caller's streams wait for ours; `results` are the values that it gets."""
        for ours, theirs in self._streams:
            theirs.wait_event(ours.record_event())
            _declare(results, theirs)

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Within, our streams are the current ones of this thread."""
        with ExitStack() as current:
            for ours, _ in self._streams:
                current.enter_context(ours)
            yield


def visit(devices: Iterable[torch.device]) -> Visit:
    """The visit of whoever calls now, to programs on `devices`."""
    pairs = [(default_stream(d), torch.accelerator.current_stream(d)) for d in devices if has_streams(d.type)]
    return Visit([(ours, theirs) for ours, theirs in pairs if ours != theirs])


def _declare(values: Iterable[Any], stream: torch.Stream) -> None:
    """Keep the memory of tensors from being reused before what `stream` does with them is done."""
    for value in values:
        if isinstance(value, torch.Tensor) and value.device == stream.device:
            value.record_stream(stream)


@functools.cache
def default_stream(device: torch.device) -> torch.Stream:
    """The stream that is current in a thread which has chosen none: workers compute on it."""
    found: list[torch.Stream] = []
    thread = threading.Thread(target=lambda: found.append(torch.accelerator.current_stream(device)))
    thread.start()
    thread.join()
    return found[0]


@functools.cache
def has_streams(kind: str) -> bool:
    """Whether a kind of device has all that copies on streams of their own need; not every backend does."""
    device = torch.device(kind, 0)
    if not is_accelerator(device):
        return False
    try:
        stream = torch.Stream(device=device)
        stream.wait_event(torch.accelerator.current_stream(device).record_event())
        torch.empty(1, device=device).record_stream(stream)
    except RuntimeError:  # NotImplementedError is one
        return False
    return True


def own_device() -> torch.device:
    """The torch device of this process: of a rank, the accelerator of its number on this machine; else the CPU."""
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return torch.device("cpu")
    return torch.device(accelerator.type, int(os.environ.get("LOCAL_RANK", "0")) % torch.accelerator.device_count())


def link_backend(device: torch.device) -> str:
    """The backend of torch.distributed that moves a device's memory, as NCCL does; "" where there is none."""
    if not is_accelerator(device):
        return ""
    backend = dist.Backend.default_device_backend_map.get(device.type, "")
    return backend if backend != dist.Backend.GLOO and dist.is_backend_available(backend) else ""


def is_accelerator(device: torch.device) -> bool:
    """Whether a torch device is of the kind of this build's accelerator."""
    current = torch.accelerator.current_accelerator()
    return current is not None and current.type == device.type


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Within, `device` is the current one of this thread."""
    return torch.accelerator.device_index(device.index or 0) if is_accelerator(device) else nullcontext()


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Within, ops on `device` draw random numbers from `seed`; behind it, its generator is as it was before.

    A device whose module has no generator of its own to tell draws, if at all, from the CPU's.
    """
    module: Any = torch.get_device_module(device.type) if is_accelerator(device) else None
    if not all(hasattr(module, name) for name in ("get_rng_state", "set_rng_state", "manual_seed")):
        yield
        return
    state = module.get_rng_state(device)
    try:
        with on_device(device):
            module.manual_seed(seed)
            yield
    finally:
        module.set_rng_state(state, device)


@contextmanager
def accelerator_generators_kept() -> Iterator[None]:
    """Behind this, the generators of all accelerators are as they were."""
    current = torch.accelerator.current_accelerator()
    module: Any = None if current is None else torch.get_device_module(current.type)
    told = torch.accelerator.device_count() if hasattr(module, "get_rng_state") else 0
    states = [module.get_rng_state(i) for i in range(told)]
    try:
        yield
    finally:
        for i, state in enumerate(states):
            module.set_rng_state(state, i)


def synchronize(device: torch.device) -> None:
    """Wait till a device has done all that it was given."""
    if is_accelerator(device):
        torch.accelerator.synchronize(device)


class Stopwatch:
    """Times what a device does between stamps: on a CPU by the clock, on an accelerator by events on its stream.

    Attributes:
        device: whose work is timed.
        reading: seconds that a stamp takes by itself; taken off what is between two of them.
    """

    def __init__(self, device: torch.device, reading: float = 0.0) -> None:
        """Of one device."""
        self.device, self.reading = device, reading
        self.stamps: list[Any] = []
        self._waits = is_accelerator(device)
        self._events = self._waits and has_timed_events(device.type)
        self.stamp: Callable[[], None] = self._record if self._events else self._read

    def _read(self) -> None:
        if self._waits:
            synchronize(self.device)
        self.stamps.append(perf_counter())

    def _record(self) -> None:
        event = torch.Event(self.device, enable_timing=True)
        event.record(torch.accelerator.current_stream(self.device))
        self.stamps.append(event)

    def insert(self, seconds: Sequence[float]) -> None:
        """Put in, behind a stamp, what somebody else has timed; what is between it and stamps does not count."""
        self.stamps.append(list(seconds))

    def seconds(self) -> list[float]:
        """Seconds from each stamp to the next, in order with those put in; the stamps are forgotten."""
        synchronize(self.device)
        stamps, self.stamps = self.stamps, []
        found: list[float] = []
        for before, after in pairwise(stamps):
            if isinstance(after, list):
                found += after
            elif not isinstance(before, list):
                passed = before.elapsed_time(after) * 1e-3 if self._events else after - before
                found.append(max(0.0, passed - self.reading))
        return found


def precise_stopwatch(device: torch.device) -> Stopwatch:
    """A stopwatch that knows how long reading the clock takes, which is in every time."""
    watch = Stopwatch(device)
    for _ in range(1000):
        watch.stamp()
    return Stopwatch(device, statistics.median(watch.seconds()))


@functools.cache
def has_timed_events(kind: str) -> bool:
    """Whether a kind of device has events that tell the time."""
    try:
        device = torch.device(kind, 0)
        first, second = (torch.Event(device, enable_timing=True) for _ in range(2))
        for event in (first, second):
            event.record(torch.accelerator.current_stream(device))
        second.synchronize()
        return bool(first.elapsed_time(second) >= 0)
    except RuntimeError:
        return False


def copy_seconds(source: torch.device, target: torch.device, nbytes: int, times: int) -> list[float]:
    """Seconds of single copies from one device to another, each until the target may use what it got."""
    courier, value, found = Courier(source, target), torch.zeros(nbytes, dtype=torch.uint8, device=source), []
    for _ in range(times + 1):
        for device in (source, target):
            synchronize(device)
        begun = perf_counter()
        courier.receive(courier.send(value, copy=False))
        synchronize(target)
        found.append(perf_counter() - begun)
    return found[1:]  # the first makes streams and memory
