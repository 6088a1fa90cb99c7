from __future__ import annotations

import threading

import pytest
import torch

from torchplace.compiler.homes import home_of, meta_counts_as, set_home

CPU, CUDA, META = torch.device("cpu"), torch.device("cuda:0"), torch.device("meta")


def test_a_tensor_is_at_home_where_it_is_unless_told() -> None:
    tensor, other = torch.ones(2), torch.ones(2)
    assert home_of(tensor) == CPU
    set_home(tensor, CUDA)
    assert home_of(tensor) == CUDA
    assert home_of(other) == CPU


def test_homes_do_not_keep_tensors_alive() -> None:
    from torchplace.compiler import homes

    before = len(homes._homes)
    tensor = torch.ones(2)
    set_home(tensor, CUDA)
    assert len(homes._homes) == before + 1
    del tensor
    assert len(homes._homes) == before


def test_meta_counts_as_another_device_within() -> None:
    tensor = torch.ones(2, device="meta")
    assert home_of(tensor) == META
    with meta_counts_as(CPU):
        assert home_of(tensor) == CPU
        with meta_counts_as(CUDA):
            assert home_of(tensor) == CUDA
        assert home_of(tensor) == CPU
    assert home_of(tensor) == META
    with pytest.raises(RuntimeError, match="mine"), meta_counts_as(CPU):
        raise RuntimeError("mine")
    assert home_of(tensor) == META


def test_only_this_thread_sees_it() -> None:
    tensor, seen = torch.ones(2, device="meta"), []
    with meta_counts_as(CPU):
        thread = threading.Thread(target=lambda: seen.append(home_of(tensor)))
        thread.start()
        thread.join()
    assert seen == [META]


def test_fake_tensors_are_made_at_home() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    tensor = torch.ones(2, device="meta")
    with meta_counts_as(CPU):
        assert FakeTensorMode(allow_non_fake_inputs=True).from_tensor(tensor).device == CPU
    assert FakeTensorMode(allow_non_fake_inputs=True).from_tensor(torch.ones(2)).device == CPU
