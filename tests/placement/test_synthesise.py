"""Synthesised schedules: complete, in order, never stuck, within their memory, and good where a good one is known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.graphs import pipeline
from tests.compiler.test_pipeline import Case, cases
from torchplace.compiler.pipeline import lower_pipeline, pipeline_tasks
from torchplace.compiler.schedule.orders import Orders
from torchplace.compiler.tasks import Task, make_tasks
from torchplace.compiler.verify import verify
from torchplace.placement.synthesise import synthesise


def free(source: Task, target: Task) -> float:
    return 0.0


def finish(tasks: list[Task], orders: Orders, seconds: Callable[[Task], float]) -> tuple[float, dict[str, int]]:
    """When the last task ends, and how many micro-batches each device has begun and not ended at most.

    Shares nothing with the package: devices do their lists in order, each item as soon as what it needs has ended.
    """
    end: dict[tuple[int, int], float] = {}
    at, now = dict.fromkeys(orders, 0), dict.fromkeys(orders, 0.0)
    while any(at[d] < len(orders[d]) for d in orders):
        before = sum(at.values())
        for device, order in orders.items():
            while at[device] < len(order):
                number, k = order[at[device]]
                needed = [(n, k) for n in tasks[number].after] + [(n, k - 1) for n in tasks[number].behind if k]
                if any(item not in end for item in needed):
                    break
                now[device] = max([now[device], *(end[item] for item in needed)]) + seconds(tasks[number])
                end[number, k] = now[device]
                at[device] += 1
        assert sum(at.values()) > before, "the order waits for itself"
    held = {}
    for device, order in orders.items():
        open_, most = 0, 0
        for number, _ in order:
            open_ += {"forward": 1, "backward": -1}.get(tasks[number].phase, 0)
            most = max(most, open_)
        held[device] = most
    return max(now.values()), held


@given(cases(), st.integers(0, 99), st.integers(1, 2))
def test_any_placement_gets_a_schedule_that_runs(case: Case, seed: int, ahead: int) -> None:
    graph, names, placement, held, _, microbatches = case
    tasks, rng = pipeline_tasks(graph, placement, held), random.Random(seed)
    seconds = {t.number: rng.choice([0.0, 0.5, 1.0, 3.0]) for t in tasks}
    orders = synthesise(tasks, microbatches, seconds, lambda a, b: rng.choice([0.0, 0.1, 2.0]), ahead)
    done = sorted(item for order in orders.values() for item in order)
    assert done == [(t.number, k) for t in tasks for k in range(microbatches)]
    assert all(tasks[number].device == device for device, order in orders.items() for number, _ in order)
    for order in orders.values():
        for number in {number for number, _ in order}:
            row = [k for n, k in order if n == number]
            assert row == sorted(row), "gradients add up in the order of micro-batches"
    verify(lower_pipeline(graph, placement, names, held, orders, microbatches, whole=False))


@pytest.mark.parametrize(("stages", "microbatches"), [(1, 3), (2, 4), (3, 6), (4, 8), (4, 16)])
def test_a_chain_of_equal_stages_is_at_least_as_quick_as_zero_bubble(stages: int, microbatches: int) -> None:
    """ZB-H1 ends at 3 M + S - 1; with more memory there is less idle time, and never less than the first stage's."""
    graph, placement = pipeline(stages)
    tasks = make_tasks(graph, placement)
    seconds = dict.fromkeys(range(len(tasks)), 1.0)
    for ahead in (1, 2):
        span, held = finish(tasks, synthesise(tasks, microbatches, seconds, free, ahead), lambda t: 1.0)
        assert 3 * microbatches + (stages - 1) >= span >= 3 * microbatches
        assert all(held[f"gpu:{s}"] <= min(microbatches, ahead * (stages - s)) for s in range(stages))


def test_twice_the_memory_is_quicker_where_transfers_take_long() -> None:
    graph, placement = pipeline(3)
    tasks = make_tasks(graph, placement)
    seconds = dict.fromkeys(range(len(tasks)), 1.0)
    spans = []
    for ahead in (1, 2):
        orders = synthesise(tasks, 9, seconds, lambda a, b: 1.0, ahead)
        spans.append(finish(tasks, orders, lambda t: 1.0)[0])
    assert spans[1] <= spans[0]


def test_a_device_far_ahead_goes_on_where_all_others_wait_for_it() -> None:
    """A branch that comes back: the last stage needs both, and stage 0 may hold no more than its share."""
    graph, placement = pipeline(4)
    placement |= {"f3": "gpu:0", "b3": "gpu:0", "w_3": "gpu:0"}
    tasks = make_tasks(graph, placement)
    orders = synthesise(tasks, 8, dict.fromkeys(range(len(tasks)), 1.0), free)
    assert sum(map(len, orders.values())) == 8 * len(tasks)
    finish(tasks, orders, lambda t: 1.0)
