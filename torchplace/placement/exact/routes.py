"""How devices are joined, in bulk: which pairs of them share a link, and which are how far apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torchplace.placement.coarse.model import Coarse

Pair = tuple[int, int]
"""From one device to another, by their numbers; they differ."""
Pairs = frozenset[Pair]


def pairs_between(sources: Iterable[int], targets: Iterable[int]) -> list[Pair]:
    """Every source with every target but itself."""
    there = list(targets)
    return [(a, b) for a in sources for b in there if a != b]


def busy_links(coarse: Coarse, pairs: Iterable[Pair]) -> set[int]:
    """The links between some pairs of devices, without those that are never busier than another.

    A link is left out if another one, no faster, carries all that goes over it. Cost: O(pairs x links of a route +
    links^2).
    """
    users: dict[int, set[Pair]] = {}
    slowness: dict[int, float] = {}
    for pair in pairs:
        for link, per_byte in coarse.way(*pair).links:
            users.setdefault(link, set()).add(pair)
            slowness[link] = per_byte
    found: list[int] = []
    for link in sorted(users, key=lambda link: (-len(users[link]), -slowness[link], link)):
        if not any(users[link] <= users[other] and slowness[link] <= slowness[other] for other in found):
            found.append(link)
    return set(found)


def shared(coarse: Coarse, pairs: Iterable[Pair]) -> dict[int, tuple[float, Pairs]]:
    """Link -> its seconds per byte, and those of some pairs that go over it."""
    found: dict[int, tuple[float, set[Pair]]] = {}
    for pair in pairs:
        for link, per_byte in coarse.way(*pair).links:
            found.setdefault(link, (per_byte, set()))[1].add(pair)
    return {link: (per_byte, frozenset(users)) for link, (per_byte, users) in found.items()}


def distances(coarse: Coarse, nbytes: int, pairs: Iterable[Pair]) -> list[tuple[float, Pairs]]:
    """Each delay of so many bytes between some pairs, ascending, with the pairs that have as much or more."""
    delay: dict[Pair, float] = {}
    for pair in pairs:
        way = coarse.way(*pair)
        delay[pair] = way.latency + nbytes * way.per_byte
    return [(least, frozenset(p for p in delay if delay[p] >= least)) for least in sorted(set(delay.values()))]


def rectangles(pairs: Pairs) -> Iterator[tuple[frozenset[int], frozenset[int]]]:
    """Pairs as few (sources, targets), each source with each target; every source is in one of them."""
    targets: dict[int, set[int]] = {}
    for a, b in sorted(pairs):
        targets.setdefault(a, set()).add(b)
    sources: dict[frozenset[int], set[int]] = {}
    for a, others in targets.items():
        sources.setdefault(frozenset(others), set()).add(a)
    for there, here in sources.items():
        yield frozenset(here), there
