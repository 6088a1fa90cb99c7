from __future__ import annotations

from collections import Counter

from tests.compiler.graphs import chain
from tests.placement.graphs import FLOAT, machine, problem
from torchplace.placement.check import check
from torchplace.placement.solvers.random import Random

W = 4 * FLOAT


def test_a_seed_gives_one_placement_and_another_seed_another() -> None:
    made = problem(chain(30), machine([10**6] * 3))
    answers = [Random().solve(made, seed=seed) for seed in (0, 0, 1)]
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]


def test_every_device_gets_about_its_share() -> None:
    made = problem(chain(3000), machine([10**9] * 3))
    counts = Counter(Random().solve(made).values())
    assert all(900 < counts[device] < 1100 for device in made.devices)  # 6 standard deviations are 155


def test_tight_memory_is_respected() -> None:
    made = problem(chain(12), machine([W, 3 * W, 8 * W]))
    for seed in range(20):
        assert check(made, Random().solve(made, seed=seed)) == []


def test_it_stays_random_where_some_devices_are_full() -> None:
    made = problem(chain(12), machine([W, 10**6, 10**6]))
    assert len({tuple(Random().solve(made, seed=seed).values()) for seed in range(20)}) == 20
