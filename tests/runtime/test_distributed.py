"""Steps on several ranks: the same results as in one process, and faults that every rank hears of."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs import Job
from tests.runtime.distributed_jobs import Net, make, read, scale, train

JOBS = "tests.runtime.distributed_jobs"


@pytest.fixture(autouse=True)
def one_thread_here() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_ranks_train_as_one_process_does(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    job = Job(f"{JOBS}:train", 2, tmp_path, rows=11, save=str(file))  # the last micro-batch is smaller
    alone = train(rows=11, dynamic=False, save=str(tmp_path / "alone.safetensors"))
    first, second = job.results()
    assert first["losses"] == second["losses"] == {str(i): loss for i, loss in alone["losses"].items()}
    assert first["norms"] == second["norms"] == alone["norms"]
    assert not set(first["here"]) & set(second["here"]), "each parameter is on one rank"
    assert sorted(first["here"] + second["here"]) == alone["here"]
    assert first["weights"] | second["weights"] == alone["weights"]
    assert file.read_bytes() == (tmp_path / "alone.safetensors").read_bytes(), "the whole model, by its own names"
    assert {name: t.shape for name, t in load_file(file).items()} == {n: t.shape for n, t in Net().state_dict().items()}


def test_values_whose_sizes_hang_on_values_go_between_ranks(tmp_path: Path) -> None:
    job = Job(f"{JOBS}:read", 2, tmp_path)
    alone = read()
    assert job.results() == [alone] * 2


def test_a_gradient_that_is_infinite_on_one_rank_is_so_for_all(tmp_path: Path) -> None:
    job = Job(f"{JOBS}:scale", 2, tmp_path)
    alone = scale()
    assert alone["scales"] == [1024.0, 512.0, 512.0, 1024.0, 1024.0]
    assert job.results() == [alone] * 2


def test_a_checkpoint_goes_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    whole = train(steps=6)["losses"]
    before = Job(f"{JOBS}:train", 3, tmp_path, steps=3, folder=folder).results()[0]["losses"]
    assert before == {str(i): whole[i] for i in range(3)}
    after = Job(f"{JOBS}:train", 2, tmp_path, steps=5, folder=folder, schedule="gpipe").results()[0]["losses"]
    assert after == {str(i): whole[i] for i in range(2, 5)}, "step 3 was not saved, and comes again"
    assert train(steps=6, folder=folder)["losses"] == {i: whole[i] for i in range(4, 6)}, "in one process, too"


def test_a_model_on_the_meta_device_begins_where_it_is_owned(tmp_path: Path) -> None:
    job = Job(f"{JOBS}:train", 2, tmp_path, meta=True)
    torch.manual_seed(0)
    alone = train(meta=True)
    assert [found["losses"] for found in job.results()] == [{str(i): x for i, x in alone["losses"].items()}] * 2
    assert alone["losses"] == train()["losses"], "modules begin in the same order, with the same numbers"


def test_what_fails_on_a_rank_is_raised_on_all(tmp_path: Path) -> None:
    job = Job(f"{JOBS}:fail", 2, tmp_path)
    try:
        assert job.codes(60) == [1, 1]
        for rank in range(2):
            said = job.text(rank).strip().splitlines()[-1]
            assert "torchplace.errors.RankError: rank 1 (cpu:1) failed at 'run s" in said
            assert "Target 10" in said
            assert "is out of bounds" in said
    finally:
        job.end()


@pytest.mark.parametrize(("how", "victim"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGSTOP, 1)])
def test_a_rank_that_dies_or_stops_is_named_by_the_others(tmp_path: Path, how: signal.Signals, victim: int) -> None:
    job, other = Job(f"{JOBS}:run_on", 2, tmp_path), 1 - victim
    try:
        job.until("READY", [0, 1])
        job.kill(victim, how)
        codes = job.codes(20) if how == signal.SIGKILL else [job.processes[other].wait(20)]
        assert all(codes), codes
        # Not the last line: threads of torch's own may have told of a lost connection behind it.
        said = [line for line in job.text(other).splitlines() if "torchplace.errors.RankError: " in line][-1]
        assert f"RankError: rank {victim}" in said
        assert "is lost" in said or "does not answer" in said
    finally:
        job.end()


@pytest.mark.parametrize(
    ("at", "said"), [(0, "has captured another graph than rank"), (2, "ranks wait for each other: rank ")]
)
def test_ranks_that_are_given_other_shapes_say_so(tmp_path: Path, at: int, said: str) -> None:
    job = Job(f"{JOBS}:train", 2, tmp_path, mismatch=at, fault_timeout=2.0)
    try:
        assert job.codes(60) == [1, 1]
        assert all(said in job.text(rank) for rank in range(2))
    finally:
        job.end()


def test_a_model_may_be_on_the_meta_device_in_one_process() -> None:
    model, step, _ = make(meta=True)
    assert isinstance(model, Net)
    step(torch.randn(8, 12), torch.zeros(8, dtype=torch.int64))
    assert {p.device.type for p in model.parameters()} == {"cpu"}
