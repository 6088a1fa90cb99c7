"""How long transfers between two ranks take, by their size, alone; and what several of them move at the same time.

What counts is what a runtime waits for: from when the sender starts to send until the receiver, who has asked for the
value before and waits for it, can use it. Clocks of two machines do not agree, so an answer of one byte comes back, and
its share is taken off. Who has waited for long wakes up more slowly; who has computed finds caches full of
other things,
and what it has made last in them. So each end computes for a while before it sends.
"""

from __future__ import annotations

import functools
import math
import random
import statistics
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import perf_counter

import torch
import torch.distributed as dist

from torchplace.placement.cost.pieces import fit_pieces
from torchplace.placement.topology.piece import Piece
from torchplace.runtime.accelerator import synchronize

_DENSE = [size for k in range(10, 20) for size in (1 << k, 3 << (k - 1))]
SIZES = (1, 64, 256, 512, *_DENSE, *(1 << k for k in range(20, 27)))
"""Bytes of the transfers that are measured: from 1 byte to 64 MiB, densest where the ways of sending change."""
ROUNDS = 10
_MOST = 16  # transfers of one size in a round
_REFINED, _CLOSE = 3, 1.04  # times that the gaps are halved in which pieces begin, and the ratio below which none is
_PAUSE = 0.5e-3  # seconds for which an end computes before it sends: long enough for the other to fall asleep
_END, _GO = 0, 1


class Line:
    """A rank's end of a line to another rank; what one end sends the other receives.

    Args:
        peer: rank of the other end.
        device: where values are sent from and received to.
        timeout: seconds to wait for a transfer.

    Raises:
        RuntimeError: of torch.distributed, from any method: the other end is dead, or did not come in time.
    """

    def __init__(self, peer: int, device: torch.device, timeout: float) -> None:
        self.peer, self.device, self._timeout = peer, device, timedelta(seconds=timeout)
        self._answer = self._bytes(1)

    def _bytes(self, nbytes: int) -> torch.Tensor:
        return torch.zeros(nbytes, dtype=torch.uint8, device=self.device)

    def _numbers(self, count: int) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.float64, device=self.device)

    def send(self, tensor: torch.Tensor) -> None:
        """Send; wait till it has gone."""
        self._wait(dist.isend(tensor, self.peer))

    def expect(self, tensor: torch.Tensor) -> Callable[[], None]:
        """Ask for a value; what is returned waits for it."""
        work = dist.irecv(tensor, self.peer)
        return lambda: self._wait(work)

    def _wait(self, work: dist.Work | None) -> None:
        if work is None:
            raise RuntimeError(f"this process is no part of a group with rank {self.peer}")
        work.wait(self._timeout)
        synchronize(self.device)

    def tell(self, *numbers: float) -> None:
        """Send some numbers, which `listen` receives."""
        self.send(torch.tensor(numbers, dtype=torch.float64, device=self.device))

    def listen(self, count: int) -> list[float]:
        """Receive as many numbers."""
        numbers = self._numbers(count)
        self.expect(numbers)()
        return list(numbers.tolist())

    def ping(self, nbytes: int, times: int) -> list[float]:
        """Seconds to move `nbytes` bytes there and one back, less what the other end does in between."""
        self.tell(_GO, nbytes, times)
        value, source, whole = self._bytes(nbytes), self._bytes(nbytes), []
        self.listen(1)  # the other end is ready
        for _ in range(times):
            answer = self.expect(self._answer)
            begun = _compute(value, source)
            self.send(value)
            answer()
            whole.append(perf_counter() - begun)
        return [max(1e-9, w - between) for w, between in zip(whole, self.listen(times), strict=True)]

    def hang_up(self) -> None:
        """Let the other end return from `pong`."""
        self.tell(_END, 0, 0)

    def pong(self) -> None:
        """The other end of `ping`s, until `hang_up`."""
        while True:
            go, nbytes, times = (int(n) for n in self.listen(3))
            if go == _END:
                return
            self._pong(nbytes, times)

    def _pong(self, nbytes: int, times: int) -> None:
        value, between = self._bytes(nbytes), []
        came = self.expect(value)
        self.tell(1.0)
        for i in range(times):
            came()
            here = perf_counter()
            if i + 1 < times:
                came = self.expect(value)
            answering = _compute(self._answer, self._answer)
            self.send(self._answer)
            between.append(answering - here)
        self.tell(*between)


@functools.cache
def _numbers() -> tuple[torch.Tensor, ...]:
    square, many = torch.randn(256, 256), torch.zeros(1 << 20)  # the latter more than a core's own caches hold
    return square, torch.empty_like(square), many, torch.empty_like(many)


def _compute(value: torch.Tensor, source: torch.Tensor) -> float:
    """Compute for a while, as a program does before it sends, a value from another at last; returns the time then."""
    square, product, many, more = _numbers()
    end = perf_counter() + _PAUSE
    while perf_counter() < end:
        torch.add(many, 1.0, out=more)
        torch.mm(square, square, out=product)
    torch.add(source, 1, out=value)
    synchronize(value.device)
    return perf_counter()


def one_way(line: Line, seconds: float, sizes: Sequence[int] = SIZES) -> dict[int, list[float]]:
    """Size -> seconds of repeated transfers from this end to the other, which does `pong`; for about so many seconds.

    Sizes of which one transfer takes more than a twentieth of the time are left out, all but the smallest; near sizes
    from which on transfers cost something else, more are measured. All are measured in rounds, in another order each
    time, so that what happens for a moment does not fall on one size.
    """
    expected = _explore(line, sizes, seconds / 20)
    found = _measure(line, expected, seconds / 8, ROUNDS // 3)
    for _ in range(_REFINED):
        more = _between(fit_pieces(_less_the_answer(found)), sorted(found))
        expected.update((nbytes, min(line.ping(nbytes, 2))) for nbytes in more)
        found |= _measure(line, {nbytes: expected[nbytes] for nbytes in more}, seconds / 16, ROUNDS // 3)
    return _less_the_answer(_measure(line, expected, seconds / 2, ROUNDS))


def _explore(line: Line, sizes: Sequence[int], most: float) -> dict[int, float]:
    """Size -> about the seconds that one transfer takes, as far as that is not more than `most`."""
    expected: dict[int, float] = {}
    for nbytes in sorted(sizes):
        taken = min(line.ping(nbytes, 2))
        if expected and taken > most:
            break
        expected[nbytes] = taken
    return expected


def _measure(line: Line, expected: Mapping[int, float], seconds: float, rounds: int) -> dict[int, list[float]]:
    """Size -> seconds of transfers with their answers; `expected` has about the seconds of one."""
    order, found = list(expected), {nbytes: list[float]() for nbytes in expected}
    for i in range(rounds):
        random.Random(i).shuffle(order)
        for nbytes in order:
            one = expected[nbytes] + 2 * _PAUSE
            times = max(1, min(_MOST, round(seconds / rounds / len(order) / one)))
            found[nbytes] += line.ping(nbytes, times + 1)[1:]  # the first finds buffers cold
    return found


def _between(pieces: Sequence[Piece], sizes: Sequence[int]) -> list[int]:
    """A size in the middle of each gap between measured sizes, by ratio, in which a piece begins."""
    found = []
    for piece in pieces[1:]:
        high = bisect_left(sizes, piece.nbytes)
        if 0 < high < len(sizes):
            middle = math.isqrt(sizes[high - 1] * sizes[high])
            if sizes[high - 1] * _CLOSE < middle:
                found.append(middle)
    return found


def _less_the_answer(found: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
    """Transfers without their answers: half of what the smallest takes with its answer, which is as small."""
    answer = statistics.median(found[min(found)]) / 2
    return {nbytes: [max(answer / 4, s - answer) for s in seconds] for nbytes, seconds in found.items()}


def meet(members: Sequence[int], device: torch.device, timeout: float) -> None:
    """Wait till all of some ranks are here, this one among them; they go on at nearly the same time."""
    first, *others = members
    lines = [Line(peer, device, timeout) for peer in (others if dist.get_rank() == first else [first])]
    if dist.get_rank() != first:
        lines[0].tell(1.0)
        lines[0].listen(1)
        return
    for line in lines:
        line.listen(1)
    for line in lines:
        line.tell(1.0)


def stream(
    target: int | None, source: int | None, device: torch.device, nbytes: int, times: int, timeout: float
) -> float:
    """Seconds to send values to a rank, one after the other, while as many come from another; either may be None."""
    out, into = torch.zeros(nbytes, dtype=torch.uint8, device=device), []
    limit = timedelta(seconds=timeout)
    if source is not None:
        into = [dist.irecv(torch.empty_like(out), source) for _ in range(times)]
    begun = perf_counter()
    gone = [dist.isend(out, target) for _ in range(times)] if target is not None else []
    for work in (*gone, *into):
        if work is not None:
            work.wait(limit)
    synchronize(device)
    return perf_counter() - begun
