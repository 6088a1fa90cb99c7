from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest

from torchplace.compiler.schedule import SCHEDULES, schedule_table
from torchplace.compiler.schedule.action import Table
from torchplace.errors import OptionError

SIZES = [(1, 1), (2, 1), (2, 4), (3, 5), (4, 4), (4, 8), (5, 12)]


def text(table: Table) -> list[str]:
    return [" ".join(map(str, row)) for row in table]


def test_gpipe_runs_all_forwards_first() -> None:
    assert text(schedule_table("gpipe", 2, 2)) == ["F0 F1 B0 W0 B1 W1"] * 2


def test_1f1b_alternates_after_a_warm_up_as_long_as_the_stages_behind() -> None:
    assert text(schedule_table("1f1b", 3, 4)) == [
        "F0 F1 F2 B0 W0 F3 B1 W1 B2 W2 B3 W3",
        "F0 F1 B0 W0 F2 B1 W1 F3 B2 W2 B3 W3",
        "F0 B0 W0 F1 B1 W1 F2 B2 W2 F3 B3 W3",
    ]


def test_zero_bubble_puts_weight_gradients_off() -> None:
    assert text(schedule_table("zero-bubble", 2, 3)) == ["F0 F1 B0 W0 F2 B1 W1 B2 W2", "F0 B0 F1 B1 W0 F2 B2 W1 W2"]


def test_interleaved_goes_through_its_chunks_in_groups_of_stages() -> None:
    assert text(schedule_table("interleaved", 2, 2, 2)) == [
        "F0 F1 F0.1 F1.1 B0.1 W0.1 B1.1 W1.1 B0 W0 B1 W1",
        "F0 F1 F0.1 B0.1 W0.1 F1.1 B1.1 W1.1 B0 W0 B1 W1",
    ]


@pytest.mark.parametrize(("stages", "microbatches"), SIZES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_stage_does_everything_once_and_in_order(name: str, stages: int, microbatches: int) -> None:
    chunks = 2 if name == "interleaved" else 1
    for row in schedule_table(name, stages, microbatches, chunks):
        assert Counter(row) == Counter(
            (phase, k, c)
            for phase in ("forward", "backward", "weight-grad")
            for k in range(microbatches)
            for c in range(chunks)
        )
        for phase, chunk in {(a.phase, a.chunk) for a in row}:
            done = [a.microbatch for a in row if (a.phase, a.chunk) == (phase, chunk)]
            assert done == sorted(done), "gradients add up in the order of micro-batches"


def test_an_unknown_schedule_is_named() -> None:
    with pytest.raises(OptionError, match=r"schedule is 'fancy'; expected one of 'gpipe', '1f1b'"):
        schedule_table("fancy", 2, 2)


def makespan(table: Table, chunks: int = 1, whole: bool = True) -> Fraction:
    """Time until all is done, where each phase takes 1 in all chunks of a stage together.

    Shares nothing with the package: each stage waits for its neighbours, by the definition of a pipeline.

    Args:
        table: of the schedule.
        chunks: of each stage.
        whole: backward and weight gradients are one piece of work of 2.
    """
    table = [[a for a in row if not (whole and a.phase == "weight-grad")] for row in table]
    stages = len(table)
    end: dict[tuple[int, str, int, int], Fraction] = {}
    at, now = [0] * stages, [Fraction(0)] * stages
    while any(a < len(row) for a, row in zip(at, table, strict=True)):
        moved = False
        for s, row in enumerate(table):
            while at[s] < len(row):
                a = row[at[s]]
                virtual = a.chunk * stages + s
                before: list[tuple[int, str, int, int]] = []
                if a.phase == "forward" and virtual:
                    v = virtual - 1
                    before = [(v % stages, "forward", a.microbatch, v // stages)]
                elif a.phase == "backward":
                    before = [(s, "forward", a.microbatch, a.chunk)]
                    if (v := virtual + 1) < stages * chunks:
                        before.append((v % stages, "backward", a.microbatch, v // stages))
                elif a.phase == "weight-grad":
                    before = [(s, "backward", a.microbatch, a.chunk)]
                if any(b not in end for b in before):
                    break
                length = Fraction(2 if whole and a.phase == "backward" else 1, chunks)
                now[s] = max([now[s], *(end[b] for b in before)]) + length
                end[s, a.phase, a.microbatch, a.chunk] = now[s]
                at[s] += 1
                moved = True
        assert moved, "the table waits for itself"
    return max(now)


@pytest.mark.parametrize(("stages", "microbatches"), SIZES)
def test_the_bubble_of_gpipe_and_1f1b_is_the_known_one(stages: int, microbatches: int) -> None:
    for name in ("gpipe", "1f1b"):
        span = makespan(schedule_table(name, stages, microbatches))
        assert span == 3 * (microbatches + stages - 1), name


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (4, 8), (4, 16), (3, 6)])
@pytest.mark.parametrize("chunks", [2, 4])
def test_the_bubble_of_interleaved_is_that_of_1f1b_by_its_chunks(stages: int, microbatches: int, chunks: int) -> None:
    span = makespan(schedule_table("interleaved", stages, microbatches, chunks), chunks)
    assert span == 3 * microbatches + Fraction(3 * (stages - 1), chunks)


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (2, 8), (3, 6), (4, 8), (4, 16)])
def test_zero_bubble_idles_a_third_of_1f1b(stages: int, microbatches: int) -> None:
    span = makespan(schedule_table("zero-bubble", stages, microbatches), whole=False)
    assert span == 3 * microbatches + (stages - 1)


@pytest.mark.parametrize(("stages", "microbatches"), SIZES)
def test_1f1b_and_zero_bubble_hold_no_more_microbatches_than_stages_ahead(stages: int, microbatches: int) -> None:
    for name in ("1f1b", "zero-bubble"):
        for s, row in enumerate(schedule_table(name, stages, microbatches)):
            held, most = 0, 0
            for action in row:
                held += {"forward": 1, "backward": -1}.get(action.phase, 0)
                most = max(most, held)
            assert most <= min(microbatches, stages - s)
