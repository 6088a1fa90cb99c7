from __future__ import annotations

import pytest

from torchplace.errors import OptionError
from torchplace.placement.topology.parts.pcie import PCIE3, PCIE4, PCIE5, Pcie
from torchplace.placement.topology.parts.sockets import CPUS, cpu_kind


def test_each_generation_doubles_the_one_before() -> None:
    assert PCIE3.bandwidth == 12e9
    assert [Pcie(generation).bandwidth for generation in (1, 2, 4, 5, 6)] == [3e9, 6e9, 24e9, 48e9, 96e9]
    assert Pcie(4, 8).bandwidth == PCIE3.bandwidth
    assert (PCIE4.kind, PCIE5.kind) == ("pcie4-x16", "pcie5-x16")


@pytest.mark.parametrize(("text", "link"), [("4", PCIE4), ("4x8", Pcie(4, 8)), (" 5x16 ", PCIE5), ("3x1", Pcie(3, 1))])
def test_as_an_option_gives_it(text: str, link: Pcie) -> None:
    assert Pcie.parse(text) == link


@pytest.mark.parametrize("text", ["", "x8", "4x", "gen4", "4.0", "4x8x8", "-4"])
def test_another_form_is_explained(text: str) -> None:
    with pytest.raises(OptionError, match="expected a generation, and lanes if not 16, such as '4' or '4x8'"):
        Pcie.parse(text)


@pytest.mark.parametrize("text", ["0", "7", "4x3", "99x16"])
def test_a_link_that_there_is_not_is_explained(text: str) -> None:
    with pytest.raises(OptionError, match="expected a generation from 1 to 6 and 1, 2, 4"):
        Pcie.parse(text)


def test_the_nearest_link_is_no_faster_than_what_is_reported() -> None:
    assert Pcie.nearest(4, 16) == PCIE4
    assert Pcie.nearest(9, 3) == Pcie(6, 2)
    assert Pcie.nearest(0, 0) == Pcie(1, 1)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("AMD EPYC 7742 64-Core Processor", "epyc"),
        ("AMD Ryzen Threadripper 3970X 32-Core Processor", "epyc"),
        ("Intel(R) Xeon(R) CPU E5-2698 v4 @ 2.20GHz", "broadwell"),
        ("Intel(R) Xeon(R) Platinum 8168 CPU @ 2.70GHz", "skylake"),
        ("Intel(R) Xeon(R) Gold 6271C CPU @ 2.60GHz", "skylake"),
        ("Intel(R) Xeon(R) Platinum 8480C", "sapphire-rapids"),
        ("INTEL(R) XEON(R) PLATINUM 8570", "emerald-rapids"),
        ("unknown", "skylake"),
    ],
)
def test_the_nearest_cpu_that_is_known(model: str, kind: str) -> None:
    assert cpu_kind(model) == kind
    assert kind in CPUS
