"""Values between the accelerators of two ranks: directly or through the host, in order with what else these do.

The devices are simulated (`tests/simulated`): what reads or frees memory without the waits that it needs is a fault.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import torch

from tests import simulated
from tests.jobs import Job
from torchplace.compiler.types import ScalarType, Symbol, TensorType
from torchplace.runtime.accelerator import link_backend
from torchplace.runtime.wire import OpenWire, Wire, wire_of

needs_compiler = pytest.mark.skipif(simulated.compiler() is None, reason="the simulated device is C++: no compiler")
TRAIN = "tests.runtime.link_jobs:train"


def ran(logs: Path, ranks: int, **options: Any) -> list[dict[str, Any]]:
    return Job(TRAIN, ranks, logs, **options).results()


@needs_compiler
def test_training_through_links_and_through_the_host_is_the_same(tmp_path: Path) -> None:
    staged = ran(tmp_path, 2, linked=False)
    linked = ran(tmp_path, 2)
    for found in (*staged, *linked):
        assert found["losses"] == staged[0]["losses"]
        assert found["faults"] == []
    for rank, found in enumerate(linked):
        assert found["here"] == staged[rank]["here"] == [f"sim:{rank}"]
        assert staged[rank]["moved"] == []
    (there, back), (received, sent) = (
        [[n for what, _, n in found["moved"] if what == way] for way in ways]
        for found, ways in zip(linked, (("send", "recv"), ("send", "recv")), strict=True)
    )
    assert (there, back) == (sent, received)
    assert sum(there) > 0
    assert sum(back) > 0


@needs_compiler
def test_a_lost_rank_ends_who_waits_for_it_in_a_link(tmp_path: Path) -> None:
    job = Job(TRAIN, 2, tmp_path, until_lost=True, fault_timeout=5.0)
    try:
        job.until("READY", (0, 1))
        begun = monotonic()
        job.kill(1)
        codes = job.codes(30)
        assert codes[0] not in (0, None)
        assert monotonic() - begun < 25
        assert "RankError" in job.text(0)
        assert "ABORTED" in job.text(0), "a device that waits for rank 1 is waited for no longer"
    finally:
        job.end()


def test_a_backend_is_asked_of_accelerators_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert link_backend(torch.device("cpu")) == ""
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    known = torch.distributed.Backend.default_device_backend_map
    for backend, there, expected in (("nccl", True, "nccl"), ("nccl", False, ""), ("gloo", True, "")):
        monkeypatch.setitem(known, "cuda", backend)
        monkeypatch.setattr(torch.distributed, "is_backend_available", lambda name, there=there: there)
        assert link_backend(device) == expected


def test_numbers_go_through_the_host_and_tensors_to_the_device() -> None:
    device = torch.device("meta")
    assert not Wire(ScalarType("int"), device, direct=True).direct
    wire = Wire(TensorType("float32", (2, 3)), device, direct=True)
    assert wire.direct
    assert wire.pack(torch.ones(2, 3)).device == device, "what eager has on the CPU is brought there first"
    assert Wire(TensorType("float32", (2, 3)), device).pack(torch.ones(2, 3)).device == torch.device("cpu")


@pytest.mark.parametrize("sizes", [(3, 5), (0, 5), (3, 0), (1, 1)])
@pytest.mark.parametrize("direct", [False, True])
def test_tensors_whose_sizes_are_not_known_bring_them(sizes: tuple[int, ...], direct: bool) -> None:
    unknown = Symbol("u0", 2)
    wire = wire_of(TensorType("float32", (unknown, 5)), torch.device("cpu"), direct)
    assert isinstance(wire, OpenWire)
    value = torch.randn(sizes).mul(2).t().contiguous().t()
    rows = iter(wire.rows(value))

    def come(nbytes: int, directly: bool) -> torch.Tensor:
        row, went = next(rows)
        assert (row.numel(), went) == (nbytes, directly)
        return row

    assert torch.equal(wire.come(come), value)
    assert next(rows, None) is None
