from __future__ import annotations

import threading

import pytest

from torchplace.runtime import neighbours
from torchplace.runtime.neighbours import Neighbours

pytestmark = pytest.mark.skipif(not neighbours._host(), reason="no memory is shared here")


def meet(size: int) -> list[Neighbours]:
    """As many ranks, each of which meets the others."""
    notes: dict[str, str] = {}
    left = threading.Condition()
    found: dict[int, Neighbours] = {}

    def say(key: str, value: str) -> None:
        with left:
            notes[key] = value
            left.notify_all()

    def hear(key: str, rank: int) -> str:
        assert str(rank) in key
        with left:
            left.wait_for(lambda: key in notes)
            return notes[key]

    def join(rank: int) -> None:
        found[rank] = Neighbours(rank, size, say, hear, timeout=5)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return [found[rank] for rank in range(size)]


def test_ranks_of_a_host_are_connected() -> None:
    ranks = meet(3)
    assert [r.ranks for r in ranks] == [[1, 2], [0, 2], [0, 1]]
    for source in range(3):
        for target in ranks[source].ranks:
            with ranks[source].connect(target) as out, ranks[target].accept(source) as into:
                out.send(bytes([source, target]))
                assert into.recv(8) == bytes([source, target])


def test_who_sees_another_network_is_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = iter(["a", "b", "a"])
    monkeypatch.setattr(neighbours, "_host", lambda: next(hosts))
    assert sorted(len(r.ranks) for r in meet(3)) == [0, 1, 1]


def test_there_are_none_where_memory_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_host", lambda: "")
    assert [r.ranks for r in meet(2)] == [[], []]


def test_a_neighbour_that_does_not_listen_is_not_waited_for_long() -> None:
    first, second = meet(2)
    first._timeout = 0.05
    second._listening.pop(0).close()
    with pytest.raises(ConnectionRefusedError):
        first.connect(1)
