from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplace.runtime.arena import SEGMENT, Receiver, Sender

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory is shared so on Linux only")


@pytest.fixture
def ends() -> Iterator[tuple[Sender, Receiver]]:
    yield from pair()


def pair() -> Iterator[tuple[Sender, Receiver]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        yield Sender(here), Receiver(there)


def row(nbytes: int, first: int) -> torch.Tensor:
    return (torch.arange(nbytes) + first).to(torch.uint8)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40), st.integers(0, 8), st.randoms(use_true_random=False))
def test_what_is_kept_stays_as_it_was_sent(sizes: list[int], kept: int, chance: random.Random) -> None:
    for sender, receiver in pair():
        alive: list[tuple[torch.Tensor, torch.Tensor]] = []
        for number, size in enumerate(sizes):
            sender.send(row(size, number))
            alive.append((receiver.receive(), row(size, number)))
            while len(alive) > kept:
                alive.pop(chance.randrange(len(alive)))
            assert all(torch.equal(came, sent) for came, sent in alive)


def test_memory_is_used_again_when_it_is_dropped_there(ends: tuple[Sender, Receiver]) -> None:
    sender, receiver = ends
    for number in range(1000):
        sender.send(row(100_000 + number % 3, number))
        assert torch.equal(receiver.receive(), row(100_000 + number % 3, number))
    assert sum(segment.memory.nbytes for segment in sender._segments) == SEGMENT


def test_one_that_is_kept_for_long_does_not_keep_others_from_being_used_again(ends: tuple[Sender, Receiver]) -> None:
    sender, receiver = ends
    sender.send(row(64, 0))
    kept = receiver.receive()
    for number in range(100):
        sender.send(row(64, number))
        assert torch.equal(receiver.receive(), row(64, number))
    assert torch.equal(kept, row(64, 0))
    assert sender._segments[0].blocks <= 3


def test_a_view_keeps_the_memory(ends: tuple[Sender, Receiver]) -> None:
    sender, receiver = ends
    sender.send(row(64, 0))
    view = receiver.receive().view(torch.float32)[3:]
    for number in range(5):
        sender.send(row(64, 7 * number + 1))
        receiver.receive()
    assert torch.equal(view, row(64, 0).view(torch.float32)[3:])


def test_a_value_larger_than_a_piece_of_memory(ends: tuple[Sender, Receiver]) -> None:
    sender, receiver = ends
    sender.send(row(3 * SEGMENT + 1, 5))
    assert torch.equal(receiver.receive(), row(3 * SEGMENT + 1, 5))


def test_more_values_than_there_is_memory(ends: tuple[Sender, Receiver]) -> None:
    sender, receiver = ends
    size = SEGMENT // 3
    kept = []
    for number in range(8):
        sender.send(row(size, number))
        kept.append(receiver.receive())
    assert all(torch.equal(came, row(size, number)) for number, came in enumerate(kept))


def test_who_waits_for_a_process_that_has_ended_is_told() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.close()
    with pytest.raises(ConnectionResetError, match="the process that sends has ended"):
        Receiver(there).receive()
    with pytest.raises(BrokenPipeError):
        Sender(there).send(row(8, 0))
    there.close()
