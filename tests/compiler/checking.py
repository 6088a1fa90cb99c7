"""Functions that check values; in a file of its own, for pytest rewrites the assertions of tests."""

from __future__ import annotations

from contextlib import nullcontext

import torch


def raises(x: torch.Tensor) -> torch.Tensor:
    """Raises for some values."""
    if (x > 3).any():
        raise ValueError(f"too much in {tuple(x.shape)}")
    return x + 1


def raises_unless(x: torch.Tensor) -> torch.Tensor:
    """Raises behind two conditions."""
    if x.dim() and not (x <= 3).all():
        raise KeyError("x")
    return x + 1


def raises_otherwise(x: torch.Tensor) -> torch.Tensor:
    """Raises in the other branch."""
    if x.max() <= 3:
        x = x * 2
    else:
        raise RuntimeError
    return x + 1


def asserts(x: torch.Tensor) -> torch.Tensor:
    """Has a message that is made."""
    assert (x <= 3).all(), f"too much in {tuple(x.shape)}"
    return x + 1


def asserts_and_says(x: torch.Tensor) -> torch.Tensor:
    """Has a message that is constant."""
    assert (x <= 3).all(), "it is too much"
    return x + 1


def looks_at_an_item(x: torch.Tensor) -> torch.Tensor:
    """Checks a number in Python."""
    if x.max().item() > 3:
        raise ValueError("too much")
    return x + 1


def looks_at_a_number(x: torch.Tensor) -> torch.Tensor:
    """Checks a number that it goes on with."""
    count = int(x.max().item())
    assert count <= 3
    return x * count


def looks_within_another(x: torch.Tensor) -> torch.Tensor:
    """Checks in what it calls."""
    with torch.no_grad(), nullcontext():
        raises(x)
    return x + 1


def tries(x: torch.Tensor) -> torch.Tensor:
    """Catches what is raised."""
    try:
        return raises(x)
    except ValueError:
        return x - 1


def chooses(x: torch.Tensor) -> torch.Tensor:
    """Has two branches that go on."""
    if (x > 3).any():
        return x * 2
    return x + 1


class OwnError(Exception):
    """Of a user's."""


def raises_its_own(x: torch.Tensor) -> torch.Tensor:
    """Raises what is not Python's."""
    if (x > 3).any():
        raise OwnError("too much")
    return x + 1
